"""Share keys: which pages of one browser may be fed by one stream.

Tabs share a stream where their addresses name the same key. It stands for the visitor whose page it is, and
the stream is refused to anybody else: so a page of one user is never fed by the stream of the next one in the
same browser. The key is no secret, and opens nothing: what may be followed is asked as ever.
"""

from collections.abc import Iterator
from typing import Final

from django.core.signing import Signer
from django.utils.crypto import constant_time_compare

#: The query's key.
SHARE: Final = "share"
_SALT: Final = "django_sse.sharing"
#: Characters of a key: 132 bits.
_LENGTH: Final = 22


def share_key(user: str | None) -> str:
    """Return the key of the visitor with this topic of their own; None is for all who are not signed in."""
    return next(_keys(user))


def is_share_key(text: str, user: str | None) -> bool:
    """Tell whether a text is the key of a visitor, also one made before the site's secret key was changed."""
    return any(constant_time_compare(text, key) for key in list(_keys(user)))


def _keys(user: str | None) -> Iterator[str]:
    signer = Signer(salt=_SALT)
    for secret in (signer.key, *signer.fallback_keys):
        # No user's own topic is empty.
        yield signer.signature(user or "", secret)[:_LENGTH]
