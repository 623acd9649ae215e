"""Who may follow what, and what saves tell: found at start-up."""

from django.http import HttpRequest

from django_sse.access import allow
from django_sse.model_events import ModelEvents, register
from tests.app.models import Article, Room


@allow("news")
def everybody(request: HttpRequest) -> bool:
    """Allow the news to everybody."""
    return True


@allow("room.<int:pk>")
def member(request: HttpRequest, pk: int) -> bool:
    """Allow a room to its members."""
    return request.user.is_authenticated and Room.objects.filter(pk=pk, members=request.user).exists()


@allow("staff")
async def staff(request: HttpRequest) -> bool:
    """Allow the staff's topic to the staff."""
    user = await request.auser()
    return user.is_active and user.is_staff


@register(Article)
class ArticleEvents(ModelEvents):
    """Every save and delete of articles is told to whoever follows the articles."""

    fields = ["title", "author"]

    def to(self, instance: Article) -> str:
        """Name the topic."""
        return "articles"
