"""Which names are topics, and what Channels and users make of them."""

import enum
import re
from types import SimpleNamespace
from typing import Any

import pytest
from channels.layers import BaseChannelLayer
from hypothesis import assume, given
from hypothesis import strategies as st

from django_sse.exceptions import TopicError
from django_sse.topics import MAX_LENGTH, check_topic, group_name, user_topic

TEXTS = st.text(min_size=1, max_size=MAX_LENGTH)
PREFIXES = st.from_regex(r"[A-Za-z0-9\-_.]{1,40}", fullmatch=True)


def is_valid(topic: str) -> bool:
    """Tell whether a text is a valid topic."""
    try:
        check_topic(topic)
    except TopicError:
        return False
    return True


TOPICS = TEXTS.filter(is_valid)


class Topic(str, enum.Enum):  # noqa: UP042  (what projects wrote before StrEnum)
    """A project's topics."""

    ORDERS = "orders"


@pytest.mark.parametrize(
    "topic",
    [
        "orders",
        "room.5",
        "user.0b6f8a8e-8f43-4f5e-9d6e-3b1f5a6a7c8d",
        "a",
        "x" * MAX_LENGTH,
        "Grüße/тема?&=#~%",
        "注文",
        "🎉",
        "sse",
        "ssetopic",
        "Sse-news",
        "my.sse-news",
    ],
)
def test_free_text_is_a_topic(topic: str) -> None:
    """Letters of any script and any punctuation may stand in a topic."""
    assert check_topic(topic) == topic


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "x" * (MAX_LENGTH + 1),
        "two words",
        "orders ",
        "orders\n",
        "a\tb",
        "a\x00b",
        "a\x1fb",
        "a\x7fb",
        "a\x85b",
        "a\xa0b",
        "a\u2003b",
        "a\u2028b",
        "a\u3000b",
        "a\ud800b",
    ],
)
def test_blanks_and_control_characters_are_refused(topic: str) -> None:
    """A topic that could end a line, or be mistaken for another, is refused with what to use instead."""
    with pytest.raises(TopicError, match=r"use 1 to 200 characters without blanks") as caught:
        check_topic(topic)

    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("topic", [None, 5, b"orders", ["orders"], object])
def test_a_topic_is_a_string(topic: Any) -> None:
    """Anything else is refused, and named."""
    with pytest.raises(TopicError, match=f"is a string, not {re.escape(repr(topic))}"):
        check_topic(topic)


@pytest.mark.parametrize("topic", ["sse-", "sse-control"])
def test_names_of_this_package_are_refused(topic: str) -> None:
    """A project cannot send to, or follow, this package's own topics."""
    with pytest.raises(TopicError, match="'sse-' are this package's"):
        check_topic(topic)


def test_a_member_of_an_enum_is_its_value() -> None:
    """What is checked is a plain string, which f-strings cannot turn into the member's name."""
    assert type(check_topic(Topic.ORDERS)) is str
    assert group_name("sse", check_topic(Topic.ORDERS)) == group_name("sse", "orders")


@given(st.text())
def test_any_text_is_a_topic_or_refused(text: str) -> None:
    """Nothing but TopicError escapes, and what is accepted comes back unchanged."""
    try:
        assert check_topic(text) == text
    except TopicError:
        return
    assert 1 <= len(text) <= MAX_LENGTH
    assert not any(character.isspace() for character in text)


def test_a_plain_topic_is_readable_in_its_group() -> None:
    """Operators find the topic in the layer where Channels allows its name."""
    assert group_name("sse", "room.5") == "sse.t.room.5"


@pytest.mark.parametrize("topic", ["room:5", "тема", "x" * 94])
def test_other_topics_are_hashed(topic: str) -> None:
    """What Channels would refuse becomes a hash, the same in every process."""
    assert re.fullmatch(r"sse\.h\.[0-9a-f]{32}", group_name("sse", topic))
    assert group_name("sse", topic) == group_name("sse", topic)


def test_the_longest_readable_group_has_99_characters() -> None:
    """The border between readable and hashed lies where Channels' does."""
    assert group_name("sse", "x" * 93) == "sse.t." + "x" * 93
    assert group_name("sse", "x" * 94) == "sse.h.9655e1c481da63b6ffd249543245f873"


@given(PREFIXES, TOPICS)
def test_channels_accepts_every_group(prefix: str, topic: str) -> None:
    """Whatever the topic, Channels takes its group's name."""
    assert BaseChannelLayer().require_valid_group_name(group_name(prefix, topic))


@given(PREFIXES, TOPICS, TOPICS)
def test_topics_do_not_share_groups(prefix: str, one: str, other: str) -> None:
    """Two topics have two groups."""
    assume(one != other)

    assert group_name(prefix, one) != group_name(prefix, other)


def test_a_topic_cannot_pretend_to_be_a_hash() -> None:
    """The group of a topic that is named like another's hash is still its own."""
    hashed = group_name("sse", "тема")

    assert group_name("sse", hashed.removeprefix("sse.h.")) != hashed
    assert group_name("sse", hashed.removeprefix("sse.")) != hashed


@pytest.mark.parametrize("pk", [5, "ann", "0b6f8a8e-8f43-4f5e-9d6e-3b1f5a6a7c8d"])
def test_a_user_has_a_topic(pk: object) -> None:
    """It is named by the primary key, of whatever kind."""
    assert user_topic(SimpleNamespace(pk=pk)) == f"user.{pk}"


@pytest.mark.parametrize("user", [SimpleNamespace(pk=None), "ann", None])
def test_a_user_without_a_key_has_none(user: object) -> None:
    """Anonymous and unsaved users are refused rather than sharing one topic."""
    with pytest.raises(TopicError, match="anonymous or not saved"):
        user_topic(user)


def test_a_users_key_must_fit_a_topic() -> None:
    """A key with blanks is refused as any topic with blanks."""
    with pytest.raises(TopicError, match="without blanks"):
        user_topic(SimpleNamespace(pk="ann lee"))
