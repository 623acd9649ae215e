"""The site as an app."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class SiteConfig(AppConfig):
    """Keep sign-ins out of the database, which has no tables."""

    name = "tests.browser.site"
    label = "browser_site"

    def ready(self) -> None:
        """Forget to note when a user signed in last."""
        user_logged_in.disconnect(dispatch_uid="update_last_login")
