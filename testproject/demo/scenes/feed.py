"""Feed: short messages as HTML fragments, and notices to one person.

A message is rendered once, on the server, and put into every page. Who is mentioned or liked hears of it on a
topic of their own, which `{% sse %}` follows on every page of theirs.
"""

import re

from django import forms
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404
from django.urls import path, reverse_lazy
from django.views.decorators.http import require_POST, require_safe

from django_sse import send_event, send_fragment
from testproject.demo.models import Message, Notice
from testproject.demo.pages import Scene, SignedIn, answered

SCENE = Scene(
    slug="feed",
    title="Feed",
    summary="Short messages for all, and notices for one.",
    module=__name__,
    card=lambda: {"message": Message.objects.first()},
    files=("templates/demo/parts/message.html", "templates/demo/parts/notice.html", "sse.py", "models.py"),
)
SHOWN = 12
NOTICES = 5


class MessageForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in the stubs only
    """A short message."""

    class Meta:
        model = Message
        fields = ["text"]


signed_in = login_required(login_url=reverse_lazy("demo:feed"))


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the latest messages, and what is for this visitor alone."""
    context = {
        "messages": Message.objects.select_related("author").prefetch_related("likes")[:SHOWN],
        "notices": Notice.objects.filter(to=request.user.pk)[:NOTICES],
        "shown": NOTICES,
        "longest": Message._meta.get_field("text").max_length,
    }
    return SCENE.render(request, context)


@require_POST
@signed_in
def post(request: SignedIn) -> HttpResponse:
    """Keep a message, put it into every page, and tell who is mentioned."""
    form = MessageForm(request.POST, instance=Message(author=request.user))
    if not form.is_valid():
        return HttpResponseBadRequest("A message has 1 to 140 characters.")
    with transaction.atomic():
        message = form.save()
        template, context = "demo/parts/message.html", {"message": message, "likes": 0, "fresh": True}
        # All three are sent after the commit, and in this order.
        send_fragment("feed", template, context, target="#messages", swap="prepend")
        send_fragment("feed", None, target=f"#messages > :nth-child(n+{SHOWN + 1})", swap="remove")
        send_event(request.user, "posted")  # empties the field: see its data-sse-on
        names = {name.lower() for name in re.findall(r"@(\w+)", message.text)}
        for user in User.objects.filter(username__in=names).exclude(pk=request.user.pk):
            notify(user, f"{message.author.get_short_name()} mentions you: {message.text}")
    return answered(request, "demo:feed")


@require_POST
@signed_in
def like(request: SignedIn) -> HttpResponse:
    """Like a message, or no more."""
    pk = request.POST.get("message", "")
    if not pk.isdecimal():
        return HttpResponseBadRequest("Which message?")
    with transaction.atomic():
        message = get_object_or_404(Message.objects.select_for_update(), pk=pk)
        is_new = not message.likes.filter(pk=request.user.pk).exists()
        (message.likes.add if is_new else message.likes.remove)(request.user)
        context = {"message": message, "likes": message.likes.count()}
        template = "demo/parts/likes.html"
        send_fragment("feed", template, context, target=f"#likes-{message.pk}", swap="html")
        if is_new and message.author != request.user:
            notify(message.author, f"{request.user.get_short_name()} likes: {message.text}")
    return answered(request, "demo:feed")


def notify(user: User, text: str) -> None:
    """Keep a notice, and show it on that user's open pages alone."""
    notice = Notice.objects.create(to=user, text=text)
    send_event(user, "notice", {"pk": notice.pk, "text": text, "sent": f"{notice.sent:%H:%M}"})


urlpatterns = [
    path("", show, name="feed"),
    path("post/", post, name="feed-post"),
    path("like/", like, name="feed-like"),
]
