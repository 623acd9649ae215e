"""The files that pages load from this package."""

from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

#: The script, by its name among the static files: made of the readable one beside it.
SCRIPT: Final = "django_sse/sse.min.js"
#: What the status and the toasts do beyond it.
WIDGETS: Final = "django_sse/widgets.js"
#: What makes the status and the toasts look as they do.
STYLE: Final = "django_sse/sse.css"
#: What the script loads in a browser without EventSource.
POLYFILL: Final = "django_sse/vendor/eventsource.min.js"

_STATIC: Final = Path(__file__).parent / "static"


@cache
def script_text() -> bytes:
    """Return the script itself."""
    return (_STATIC / SCRIPT).read_bytes()


@cache
def script_version() -> str:
    """Return what changes with the script."""
    return blake2b(script_text(), digest_size=6).hexdigest()
