"""Who may follow which topic, and which models send events.

django_sse imports this module at start-up, as Django does with `admin.py`. A topic without a rule is refused.
A user's own topic needs none: it is always followed by that user, and by nobody else.
"""

from django_sse.access import allow
from django_sse.model_events import ModelEvents, register
from testproject.demo.models import Article

allow("articles", public=True)
allow("prices", public=True)
allow("jobs", public=True)


@register(Article)
class ArticleEvents(ModelEvents):
    """Send `article-created`, `article-updated` and `article-deleted` after the admin's commit."""

    fields = ["title", "body", "published"]

    def to(self, instance: Article) -> str:
        """Name the topic that hears of the article."""
        return "articles"
