"""The ASGI application of the demo: `daphne testproject.asgi:application`."""

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler

from django_sse.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testproject.settings")

# The outer handler serves the static files: a demo has no web server in front that would.
application = ASGIStaticFilesHandler(get_asgi_application())
