"""Settings with the apps of the tests and of the demo at once, for mypy to know their models."""

from testproject import settings as demo
from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as TESTED_APPS

INSTALLED_APPS = [*TESTED_APPS, *(app for app in demo.INSTALLED_APPS if app not in TESTED_APPS)]
