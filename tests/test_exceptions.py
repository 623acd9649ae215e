"""The names that projects may rely on."""

import os
import subprocess
import sys

import pytest

import django_sse
from django_sse import exceptions


@pytest.mark.parametrize("name", ["EventError", "TopicError", "CursorError", "HistoryError", "PublishError"])
def test_every_error_has_one_root(name: str) -> None:
    """Whoever catches SSEError catches whatever this package raises by itself."""
    assert issubclass(getattr(exceptions, name), exceptions.SSEError)


@pytest.mark.parametrize("name", ["EventError", "TopicError", "CursorError"])
def test_wrong_values_are_value_errors(name: str) -> None:
    """What an argument or a client got wrong is also a ValueError."""
    assert issubclass(getattr(exceptions, name), ValueError)


def test_the_tree_has_no_other_members() -> None:
    """A new error is a new promise: this test and the tree in the docstring know them all."""
    tree = {name for name, value in vars(exceptions).items() if isinstance(value, type)}

    assert tree == {"SSEError", "EventError", "TopicError", "CursorError", "HistoryError", "PublishError"}
    assert all(name in (exceptions.__doc__ or "") for name in tree)


def test_the_public_names_are_these() -> None:
    """What the package's root offers changes only where somebody means it to."""
    assert django_sse.__all__ == [
        "CursorError",
        "Event",
        "EventError",
        "EventStreamResponse",
        "HistoryError",
        "PublishError",
        "SSEError",
        "TopicError",
        "aget_cursor",
        "arevoke",
        "asend_event",
        "asend_fragment",
        "get_cursor",
        "revoke",
        "send_event",
        "send_fragment",
        "user_topic",
    ]
    assert all(hasattr(django_sse, name) for name in django_sse.__all__)


def test_importing_the_package_needs_no_settings() -> None:
    """Its names can be imported where Django is not configured, and leave it so."""
    script = "from django_sse import *; from django.conf import settings; print(settings.configured)"
    env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}

    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (run.stdout, run.stderr) == ("False\n", "")
