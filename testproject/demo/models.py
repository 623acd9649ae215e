"""What the page shows and the database keeps."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class Article(models.Model):
    """A piece of news, written in Django's admin and seen by everybody."""

    title = models.CharField(max_length=120)
    body = models.TextField(blank=True)
    published = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        ordering = ["-published", "-pk"]

    def __str__(self) -> str:
        return self.title


class Note(models.Model):
    """A short message to one user."""

    recipient = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notes")
    sender = models.CharField(max_length=150)  # the name as shown: a visitor has no account
    text = models.CharField(max_length=140)
    sent = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-sent", "-pk"]

    def __str__(self) -> str:
        return f"{self.sender}: {self.text}"
