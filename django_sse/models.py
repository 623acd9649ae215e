"""The tables of the history in a database, and what the admin shows, behind which no table stands.

The history writes them by itself, in a connection of its own; nothing else should. Names and texts are kept
as bytes: no character set or collation of a database then changes them.
"""

from django.db import models
from django.utils.translation import gettext_lazy as _

#: Characters of a topic's key, and of a key that is remembered: 128 bits in hexadecimal.
KEY_LENGTH = 32


class Topic(models.Model):
    """A topic that ever had an entry, and its newest one's position: the counter that orders its appends."""

    key = models.CharField(primary_key=True, max_length=KEY_LENGTH)
    #: For people: percent-encoded where it is not plain ASCII.
    name = models.TextField()
    offset = models.BigIntegerField()
    tag = models.BigIntegerField()
    #: The tag before, for the entry that is being appended.
    previous = models.BigIntegerField()
    #: Microseconds since the epoch, by the database's clock; never less than the entry's before.
    time = models.BigIntegerField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class Entry(models.Model):
    """An event in a topic's history."""

    pk = models.CompositePrimaryKey("topic", "offset")
    topic = models.CharField(max_length=KEY_LENGTH)
    offset = models.BigIntegerField()
    tag = models.BigIntegerField()
    previous = models.BigIntegerField()
    time = models.BigIntegerField(db_index=True)
    name = models.BinaryField()
    text = models.BinaryField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.topic}/{self.offset}"


class Key(models.Model):
    """What is remembered of a topic's versions and idempotency keys: a version, or an entry's offset."""

    pk = models.CompositePrimaryKey("topic", "name")
    topic = models.CharField(max_length=KEY_LENGTH)
    name = models.CharField(max_length=KEY_LENGTH)
    value = models.BigIntegerField()
    time = models.BigIntegerField(db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.topic}/{self.name}"


class Clock(models.Model):
    """The one row of the whole history: what versions go on from, and topics' beginnings are made of."""

    id = models.SmallIntegerField(primary_key=True)
    #: Random, so that a history which lost everything is not taken for the old one.
    secret = models.BigIntegerField()
    version = models.BigIntegerField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.version)


class Outbox(models.Model):
    """An event that was written in the transaction of its sender, and is not appended yet."""

    #: Microseconds since the epoch, by the sender's clock.
    time = models.BigIntegerField()
    #: JSON.
    topics = models.BinaryField()
    name = models.BinaryField()
    text = models.BinaryField()
    #: As `Key` remembers them.
    made = models.CharField(max_length=KEY_LENGTH, null=True)  # noqa: DJ001  (None is no key)
    key = models.CharField(max_length=KEY_LENGTH, null=True)  # noqa: DJ001
    version = models.BigIntegerField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.pk)


class Process(models.Model):
    """A process of the site: the name under which the admin shows its streams, and who may look."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = _("process")
        verbose_name_plural = _("event streams")

    def __str__(self) -> str:
        return str(self._meta.verbose_name)
