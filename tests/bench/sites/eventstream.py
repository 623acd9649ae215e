"""Django with django-eventstream and its storage, which is what gives its events their ids."""

import os

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management import call_command
from django.urls import include, path

from tests.bench.sites.order import TOPIC, text_of
from tests.bench.sites.views import urls

settings.configure(
    SECRET_KEY="of the benchmark",
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django_eventstream",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    ROOT_URLCONF=__name__,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["BENCH_DATABASE"]}},
    EVENTSTREAM_STORAGE_CLASS="django_eventstream.storage.DjangoModelStorage",
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django_eventstream import send_event  # noqa: E402

call_command("migrate", verbosity=0)


async def _publish(numbers: range) -> None:
    for number in numbers:
        await sync_to_async(send_event)(TOPIC, "message", text_of(number), json_encode=False)


urlpatterns = [
    path("events/", include("django_eventstream.urls"), {"channels": [TOPIC]}),
    *urls(_publish),
]
application = get_asgi_application()
