"""Everybody may follow everything here."""

from django.http import HttpRequest

from django_sse.access import allow


@allow("soak.<name>")
def anything(request: HttpRequest, name: str) -> bool:
    """Say yes."""
    return True
