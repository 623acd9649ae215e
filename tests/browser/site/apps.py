"""The site as an app."""

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in

from django_sse.signals import stream_closed, stream_opened


class SiteConfig(AppConfig):
    """Keep sign-ins out of the database, which has no tables; count streams."""

    name = "tests.browser.site"
    label = "browser_site"

    def ready(self) -> None:
        """Forget to note when a user signed in last, and note when streams begin and end."""
        from tests.browser.site.views import count  # noqa: PLC0415  (it needs the models)

        user_logged_in.disconnect(dispatch_uid="update_last_login")
        stream_opened.connect(count)
        stream_closed.connect(count)
