"""Where articles are written: saving here is all it takes to reach every open page."""

from django.contrib import admin

from testproject.demo.models import Article


@admin.register(Article)
class ArticleAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic in the stubs only
    """Write, edit and delete articles."""

    list_display = ["title", "published"]
    search_fields = ["title", "body"]
