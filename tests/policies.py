"""The security policies that docs/how-to/csp.md shows."""

from pathlib import Path
from typing import Any

import django

from tests.servers.process import ROOT

PAGE: Path = ROOT / "docs" / "how-to" / "csp.md"
#: Those that can be made here, by who sends them.
SENDERS = ["django-csp", *(["Django 6"] if django.VERSION >= (6, 0) else [])]


def policy_of(sender: str, nonce: str) -> str:
    """Return the header that the settings make which are shown for a sender of headers."""
    _, _, rest = PAGE.read_text().partition(f"```python\n# settings.py for {sender}\n")
    names: dict[str, Any] = {}
    exec(rest.partition("```")[0], names)
    if sender == "django-csp":
        from csp.utils import build_policy  # noqa: PLC0415  (as below)

        return build_policy(names["CONTENT_SECURITY_POLICY"]["DIRECTIVES"], nonce=nonce)
    from django.utils.csp import build_policy as build  # noqa: PLC0415  (Django 6)

    return str(build(names["SECURE_CSP"], nonce))
