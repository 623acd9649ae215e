"""A site whose events share the fate of its transactions."""

import json
import os

import pymysql

pymysql.install_as_MySQLdb()

SECRET_KEY = "of the tests"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_sse", "tests.servers.outbox"]
DATABASES = {"default": json.loads(os.environ["SITE_DATABASE"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.urls"
USE_TZ = True
DJANGO_SSE = {
    "HISTORY": {"BACKEND": "django_sse.history.database.DatabaseHistory", "OPTIONS": {"timeout": 10}},
    "OUTBOX": True,
}
