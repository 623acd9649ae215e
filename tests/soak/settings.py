"""A server under load; the defaults of django_sse, unless the environment asks for a short history."""

import json
import os
from typing import Any

SECRET_KEY = "of the soak tests"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["django_sse", "tests.soak"]
MIDDLEWARE = ["tests.soak.urls.believe"]
ROOT_URLCONF = "tests.soak.urls"
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

DJANGO_SSE: dict[str, Any] = {}

if "SOAK_REDIS" in os.environ:
    CHANNEL_LAYERS["default"] = {
        "BACKEND": os.environ["SOAK_LAYER"],
        "CONFIG": {"hosts": [os.environ["SOAK_REDIS"]]},
    }
    if "SOAK_EXPIRY" in os.environ:
        CHANNEL_LAYERS["default"]["CONFIG"]["group_expiry"] = int(os.environ["SOAK_EXPIRY"])
    # Unless told otherwise nothing is found by the tail check: what arrives, a doorbell announced.
    DJANGO_SSE["CHECK"] = 3600.0

if "SOAK_CHECK" in os.environ:
    DJANGO_SSE["CHECK"] = float(os.environ["SOAK_CHECK"])

if "SOAK_DATABASE" in os.environ:
    DATABASES: dict[str, Any] = {"default": json.loads(os.environ["SOAK_DATABASE"])}
    DJANGO_SSE["HISTORY"] = {"BACKEND": "django_sse.history.database.DatabaseHistory"}
    if DATABASES["default"]["ENGINE"].endswith("mysql"):
        import pymysql

        pymysql.install_as_MySQLdb()

if "SOAK_HISTORY" in os.environ:
    DJANGO_SSE["HISTORY"] = {
        "BACKEND": "django_sse.history.redis.RedisHistory",
        "OPTIONS": {"url": os.environ["SOAK_HISTORY"]},
    }

if "SOAK_LENGTH" in os.environ:
    DJANGO_SSE["HISTORY"] = {
        "BACKEND": "django_sse.history.MemoryHistory",
        "OPTIONS": {"length": int(os.environ["SOAK_LENGTH"])},
    }
