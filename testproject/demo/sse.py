"""Who may follow which topic, and which models send events.

django_sse imports this module at start-up, as Django does with `admin.py`. A topic without a rule is refused.
A user's own topic needs none: it is always followed by that user, and by nobody else.
"""

from django_sse.access import allow
from django_sse.model_events import ModelEvents, register
from testproject.demo.models import Article, Match

for topic in ("articles", "feed", "jobs", "machine", "prices", "scores", "ticks"):
    allow(topic, public=True)


@register(Article)
class ArticleEvents(ModelEvents):
    """Send `article-created`, `article-updated` and `article-deleted` after the commit."""

    def to(self, instance: Article) -> str:
        """Name the topic that hears of the article."""
        return "articles"

    def data(self, instance: Article, action: str) -> object:
        """Return what the page shows; `text` is what the toast says."""
        return {
            "pk": instance.pk,
            "title": instance.title,
            "body": instance.body,
            "published": instance.published,
            "shown": f"{instance.published:%d %b, %H:%M} UTC",
            "edit": f"/admin/demo/article/{instance.pk}/change/",
            "text": f"News: {instance.title}",
            "level": "info",
        }


@register(Match)
class MatchEvents(ModelEvents):
    """Send how a match stands, in an event of its own name; each carries the row's version."""

    def to(self, instance: Match) -> str:
        """Name the topic that hears of the match."""
        return "scores"

    def event_name(self, instance: Match, action: str) -> str:
        """Name the event by the row, so that the cells of other rows are not concerned."""
        return instance.event

    def data(self, instance: Match, action: str) -> object:
        """Return the goals, and the sentence that goes into the list of changes."""
        return {
            "pk": instance.pk,
            "home": instance.home_goals,
            "away": instance.away_goals,
            "line": str(instance),
        }
