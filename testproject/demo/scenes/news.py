"""News: articles from Django's admin, by the signals of their model.

There is nothing here that sends: `ArticleEvents` in `sse.py` does, whoever saves an article, after the
commit. This is the view of a page that was there before.
"""

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from testproject.demo.models import Article
from testproject.demo.pages import Scene

SCENE = Scene(
    slug="news",
    title="News",
    summary="Articles from Django's admin, on every page as they are saved.",
    module=__name__,
    card=lambda: {"article": Article.objects.first()},
    files=("sse.py", "templates/demo/parts/article.html", "admin.py", "models.py"),
)
SHOWN = 5


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the latest articles."""
    return SCENE.render(request, {"articles": Article.objects.all()[:SHOWN], "shown": SHOWN})


urlpatterns = [path("", show, name="news")]
