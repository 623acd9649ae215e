"""The pages, their one-click accounts, the note form, and the button of the long job."""

from typing import Any

from django.contrib.auth import get_user_model, login, logout
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from django_sse import send_event, user_topic
from testproject.demo.accounts import ACCOUNTS, USERNAMES
from testproject.demo.forms import NoteForm
from testproject.demo.hashing import AT_ONCE, hashing
from testproject.demo.hashing import SHOWN as JOBS_SHOWN
from testproject.demo.market import market
from testproject.demo.models import Article, Note

SHOWN = 4  # articles and notes on the page; demo.js keeps as many in the lists


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Show the page as it stands now; the stream carries it on from there."""
    return _page(request, NoteForm())


@require_POST
def sign_in(request: HttpRequest) -> HttpResponse:
    """Sign in one of the made-up accounts: without a password, so nobody else's."""
    username = request.POST.get("account", "")
    if username not in USERNAMES:
        return HttpResponseBadRequest("Only the made-up accounts sign in with one click.")
    user = get_object_or_404(get_user_model(), username=username)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    next_page = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(
        next_page, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        next_page = reverse("demo:index")
    return redirect(next_page)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """Sign out, and show the page as a visitor sees it."""
    logout(request)
    return redirect("demo:index")


@require_POST
def send_note(request: HttpRequest) -> HttpResponse:
    """Keep a note, and send it to its recipient's open pages, and to no other page."""
    form = NoteForm(request.POST)
    if not form.is_valid():
        return (
            JsonResponse(form.errors, status=400)
            if _wants_json(request)
            else _page(request, form, status=400)
        )
    recipient = get_object_or_404(get_user_model(), username=form.cleaned_data["to"])
    sender = _name(request) or "A visitor"
    with transaction.atomic():
        note = Note.objects.create(recipient=recipient, sender=sender, text=form.cleaned_data["text"])
        # Sent to a user, not to a topic, and only once the note is committed.
        send_event(recipient, "note", {"pk": note.pk, "sender": sender, "text": note.text, "sent": note.sent})
    if _wants_json(request):
        return JsonResponse({"to": recipient.get_short_name()})
    return redirect("demo:index")


@require_http_methods(["GET", "HEAD", "POST"])
def job(request: HttpRequest) -> HttpResponse:
    """Show the long jobs as they stand now, or start one more."""
    if request.method != "POST":
        return _job_page(request)
    # It goes on in a thread: the answer does not wait, and its progress needs no page that does.
    is_started = hashing.start(_name(request) or "a visitor", fails="fails" in request.POST) is not None
    message = "" if is_started else f"{AT_ONCE} run already. Wait for one of them."
    status = 200 if is_started else 409
    if _wants_json(request):
        return JsonResponse({"message": message}, status=status)
    return redirect("demo:job") if is_started else _job_page(request, message, status=status)


def _job_page(request: HttpRequest, message: str = "", *, status: int = 200) -> HttpResponse:
    context = {"jobs": hashing.jobs(), "shown": JOBS_SHOWN, "message": message}
    return _render(request, "job", context, status=status)


def _wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


def _name(request: HttpRequest) -> str:
    return request.user.get_short_name() if request.user.is_authenticated else ""


def _page(request: HttpRequest, form: NoteForm, *, status: int = 200) -> HttpResponse:
    context = {
        # Whoever is most likely meant comes first: the other one.
        "recipients": sorted(ACCOUNTS, key=lambda account: account.username == request.user.get_username()),
        "articles": Article.objects.all()[:SHOWN],
        "notes": Note.objects.filter(recipient=request.user.pk)[:SHOWN],  # a visitor has no key, and no notes
        "own_topic": user_topic(request.user) if request.user.is_authenticated else None,
        "quotes": market.quotes(),
        "form": form,
        "shown": SHOWN,
    }
    return _render(request, "index", context, status=status)


def _render(request: HttpRequest, page: str, context: dict[str, Any], *, status: int) -> HttpResponse:
    context |= {
        "here": reverse(f"demo:{page}"),
        "accounts": ACCOUNTS,
        "account": next((a for a in ACCOUNTS if a.username == request.user.get_username()), None),
    }
    response = render(request, f"demo/{page}.html", context, status=status)
    # The strictest policy that a page can have, to show that the tags need nothing more.
    response["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return response
