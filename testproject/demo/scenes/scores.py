"""Scores: edited by one person, seen by all.

`MatchEvents` in `sse.py` tells each save. It draws a version while the row is locked, so however two edits
of one row race, no page ends with the earlier one.
"""

from django.contrib.auth.decorators import user_passes_test
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse_lazy
from django.views.decorators.http import require_POST, require_safe

from testproject.demo.models import Match
from testproject.demo.pages import Scene, answered

SCENE = Scene(
    slug="scores",
    title="Scores",
    summary="A scoreboard that one person edits and everybody sees.",
    module=__name__,
    card=lambda: {"match": Match.objects.first()},
    files=("sse.py", "models.py"),
)
SIDES = {"home": "home_goals", "away": "away_goals"}
STEPS = {"more": 1, "less": -1}


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the scoreboard; whoever is of the staff gets buttons."""
    matches = Match.objects.all()
    return SCENE.render(request, {"matches": matches, "events": " ".join(match.event for match in matches)})


@require_POST
@user_passes_test(lambda user: user.is_staff, login_url=reverse_lazy("demo:scores"))
def edit(request: HttpRequest, pk: int, side: str, step: str) -> HttpResponse:
    """Count a goal, or take it back."""
    if side not in SIDES or step not in STEPS:
        raise Http404
    with transaction.atomic():
        match = get_object_or_404(Match.objects.select_for_update(), pk=pk)
        goals = max(0, getattr(match, SIDES[side]) + STEPS[step])
        setattr(match, SIDES[side], goals)
        match.save()
    return answered(request, "demo:scores")


urlpatterns = [
    path("", show, name="scores"),
    path("<int:pk>/<slug:side>/<slug:step>/", edit, name="scores-edit"),
]
