"""What a project might have."""

from django.contrib.auth.models import User
from django.db import models


class Room(models.Model):
    """A place that has members."""

    name = models.CharField(max_length=100)
    members = models.ManyToManyField(User)
    neighbours = models.ManyToManyField("self")

    def __str__(self) -> str:
        return self.name


class Article(models.Model):
    """A text that somebody writes."""

    title = models.CharField(max_length=100)
    author = models.ForeignKey(User, null=True, on_delete=models.CASCADE)
    price = models.DecimalField(max_digits=6, decimal_places=2, default=0)
    published = models.DateTimeField(null=True)
    rooms = models.ManyToManyField(Room)

    def __str__(self) -> str:
        return self.title


class Draft(Article):
    """An article by another name, in the same table."""

    class Meta:
        proxy = True


class Essay(Article):
    """An article with a table of its own besides."""

    pages = models.IntegerField(default=1)
