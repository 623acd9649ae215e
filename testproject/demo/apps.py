"""The app's entry in Django's registry."""

from django.apps import AppConfig


class DemoConfig(AppConfig):
    """Register the demo's models, and its topic rules in `sse.py`."""

    name = "testproject.demo"
