"""Settings of the browser tests' site."""

import json
import os

from tests.servers.process import ROOT
from tests.settings import *  # noqa: F403

DEBUG = True  # static files are served from where they stand
INSTALLED_APPS = [*INSTALLED_APPS, "tests.browser.site"]  # noqa: F405
ALLOWED_HOSTS = [*ALLOWED_HOSTS, ".localhost"]  # noqa: F405  (browsers count sockets by host name)
ROOT_URLCONF = "tests.browser.site.urls"
TEMPLATES = [{**TEMPLATES[0], "DIRS": [ROOT / "docs" / "examples"]}]  # noqa: F405
# Who is signed in stands in the cookie alone, so the site needs no tables.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
AUTHENTICATION_BACKENDS = ["tests.browser.site.accounts.Everybody"]
STATIC_URL = os.environ.get("SITE_STATIC_URL", STATIC_URL)  # noqa: F405

DJANGO_SSE = {"RETRY": 0.1, **json.loads(os.environ.get("SITE_SSE", "{}"))}
