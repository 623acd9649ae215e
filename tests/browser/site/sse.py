"""Every topic of the site is everybody's."""

from django.http import HttpRequest

from django_sse.access import allow


@allow("<str:topic>")
def everybody(request: HttpRequest, topic: str) -> bool:
    """Let everybody follow."""
    return True
