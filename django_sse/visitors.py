"""Visitors: who has a stream, and by what."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """The signed-in user of a stream, as the request saw them that opened it."""

    #: The user's own topic.
    user: str
    #: When that request began, before anything about the user was read; seconds of the monotonic clock.
    began: float
    #: What the session is known by; None where signing in was by other ways.
    session_key: str | None = field(default=None, repr=False)
    #: The class of the session's store.
    session_store: type | None = None
    #: What the session holds: a hash that changes with the password, and the backend that signed in.
    auth_hash: str = field(default="", repr=False)
    backend: str = ""
