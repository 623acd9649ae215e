"""Who may follow what: everybody everything."""

from django.http import HttpRequest

from django_sse.access import allow
from tests.bench.sites.order import TOPIC


@allow(TOPIC)
@allow("own.<int:number>")
def everybody(request: HttpRequest, number: int = 0) -> bool:
    """Allow."""
    return True
