"""The application of the server under load."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()
