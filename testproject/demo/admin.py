"""Where articles are written: saving here is all it takes to reach every open page."""

from django.contrib import admin

from testproject.demo.models import Article, Match


@admin.register(Article)
class ArticleAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """Write, edit and delete articles."""

    list_display = ["title", "published"]
    search_fields = ["title", "body"]


@admin.register(Match)
class MatchAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Name the sides of a match."""

    list_display = ["home", "home_goals", "away_goals", "away"]
