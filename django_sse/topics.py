"""Names of topics.

A topic's name is free text without blanks or control characters. Channels allows less in a group's
name (ASCII letters, digits, ``-_.``, under 100 characters), so other names are hashed there.
"""

import re
from hashlib import blake2b

from django_sse.exceptions import TopicError

MAX_LENGTH = 200
#: Topics of this package itself start so.
RESERVED_PREFIX = "sse-"
#: What tells every process whose access has ended.
CONTROL_TOPIC = f"{RESERVED_PREFIX}control"
#: The topics of users start so.
USER_PREFIX = "user."

_VALID = re.compile(rf"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{MAX_LENGTH}}}")
_GROUP = re.compile(r"[A-Za-z0-9\-_.]{1,99}")


def check_topic(topic: str) -> str:
    """Return the topic; raise TopicError where it is not a valid name of a project's topic."""
    if not isinstance(topic, str):
        msg = f"a topic is a string, not {topic!r}"
        raise TopicError(msg)
    if not _VALID.fullmatch(topic):
        msg = (
            f"topic {topic[: MAX_LENGTH + 20]!r} is not valid: use 1 to {MAX_LENGTH} characters without "
            "blanks or control characters, such as 'orders' or 'room.5'"
        )
        raise TopicError(msg)
    if topic.startswith(RESERVED_PREFIX):
        msg = f"topic {topic!r} is reserved: names starting with {RESERVED_PREFIX!r} are this package's"
        raise TopicError(msg)
    return str.__str__(topic)  # a member of an enum would be written "Topic.ORDERS" in f-strings


def group_name(prefix: str, topic: str) -> str:
    """Return the Channels group of a topic: the topic itself where Channels allows it, else its hash."""
    plain = f"{prefix}.t.{topic}"
    if _GROUP.fullmatch(plain):
        return plain
    return f"{prefix}.h.{blake2b(topic.encode(), digest_size=16).hexdigest()}"


def user_topic(user: object) -> str:
    """Return a user's own topic, ``user.<pk>``; raise TopicError for a user without a primary key."""
    pk = getattr(user, "pk", None)
    if pk is None:
        msg = f"{user!r} has no topic: it is anonymous or not saved"
        raise TopicError(msg)
    return check_topic(f"{USER_PREFIX}{pk}")
