"""A server under load; the defaults of django_sse, unless the environment asks for a short history."""

import os

from tests.settings import *  # noqa: F403

INSTALLED_APPS = ["django_sse", "tests.soak"]
MIDDLEWARE: list[str] = []
DATABASES: dict[str, object] = {}
ROOT_URLCONF = "tests.soak.urls"

if "SOAK_LENGTH" in os.environ:
    DJANGO_SSE = {
        "HISTORY": {
            "BACKEND": "django_sse.history.MemoryHistory",
            "OPTIONS": {"length": int(os.environ["SOAK_LENGTH"])},
        }
    }
