"""The app that tests use as a project would."""

from django.apps import AppConfig


class TestAppConfig(AppConfig):
    """An app with models, rules and model events."""

    __test__ = False  # its name is Django's way, pytest need not look
    name = "tests.app"
    label = "tests_app"
