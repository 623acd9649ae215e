"""A server under load; the defaults of django_sse, unless the environment asks for a short history."""

import os

SECRET_KEY = "of the soak tests"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["django_sse", "tests.soak"]
ROOT_URLCONF = "tests.soak.urls"
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

if "SOAK_LENGTH" in os.environ:
    DJANGO_SSE = {
        "HISTORY": {
            "BACKEND": "django_sse.history.MemoryHistory",
            "OPTIONS": {"length": int(os.environ["SOAK_LENGTH"])},
        }
    }
