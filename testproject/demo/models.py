"""What the scenes show and the database keeps."""

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


class Match(models.Model):
    """A match of two sides, and how it stands."""

    home = models.CharField(max_length=40)
    away = models.CharField(max_length=40)
    home_goals = models.PositiveSmallIntegerField(default=0)
    away_goals = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "matches"

    def __str__(self) -> str:
        return f"{self.home} {self.home_goals} : {self.away_goals} {self.away}"

    @property
    def event(self) -> str:
        """The name of the event that tells how it stands."""
        return f"match-{self.pk}"


class Message(models.Model):
    """A short message to everybody."""

    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    text = models.CharField(max_length=140)
    sent = models.DateTimeField(default=timezone.now)
    likes = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="+", blank=True)

    class Meta:
        ordering = ["-sent", "-pk"]

    def __str__(self) -> str:
        return f"{self.author}: {self.text}"


class Notice(models.Model):
    """What one user is told, and nobody else."""

    to = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    text = models.CharField(max_length=200)
    sent = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-sent", "-pk"]

    def __str__(self) -> str:
        return self.text


class Job(models.Model):
    """A long job, and how far it was when that was written down last."""

    key = models.CharField(max_length=32, unique=True)
    label = models.CharField(max_length=60)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=10, default="running")
    digest = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.label}: {self.state}"

    @property
    def percent(self) -> int:
        """How much of it is done."""
        return self.done * 100 // self.total if self.total else 0
