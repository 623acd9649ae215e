"""The thread and the database connections that Django gives to a request."""

import logging

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections

logger = logging.getLogger(__name__)


async def release_request() -> None:
    """Give back the request's thread and database connections, which a stream would hold for hours.

    Under Django's ASGI handler each request has a thread for its synchronous code, and that thread its
    own connections; they live until the response ends. Elsewhere, as in the test client, threads are
    shared and nothing is touched. The table of threads is asgiref's own business: where it changes,
    this does nothing, and only costs memory.
    """
    try:
        context = SyncToAsync.thread_sensitive_context.get(None)
        executors = SyncToAsync.context_to_thread_executor
        if context is None or getattr(context, "_executor", None) is not None or context not in executors:
            return
        await sync_to_async(close_connections)()
        if (executor := executors.pop(context, None)) is not None:
            executor.shutdown(wait=False)
    except (AttributeError, KeyError, TypeError):
        logger.warning("The request's thread could not be released: this asgiref is not known", exc_info=True)


def are_in_use() -> bool:
    """Tell whether requests are under way: Django's ASGI handlers give them threads; streams have none."""
    return len(getattr(SyncToAsync, "context_to_thread_executor", ())) > 0


def close_connections() -> None:
    """Close this thread's database connections."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # a TestCase's transaction must outlive the stream
            connection.close()
