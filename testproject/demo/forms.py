"""The note form."""

from django import forms

from testproject.demo.accounts import ACCOUNTS


class NoteForm(forms.Form):
    """A short text for one of the made-up accounts."""

    text = forms.CharField(max_length=140)
    to = forms.ChoiceField(choices=[(account.username, account.name) for account in ACCOUNTS])
