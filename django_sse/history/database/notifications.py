"""PostgreSQL's own doorbell: NOTIFY, which an append sends with its commit.

It needs psycopg 3 and a connection that is no pooler's; where there is none, the tail check finds what other
processes have appended.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

from django_sse.history.database.entries import decode_notice
from django_sse.history.database.statements import CHANNEL
from django_sse.positions import Position

logger = logging.getLogger(__name__)

_MAX_PAUSE: Final = 30.0


def can_listen(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether a database tells its clients what happens, and the driver passes it on."""
    if connection.vendor != "postgresql":
        return False
    from django.db.backends.postgresql.psycopg_any import is_psycopg3  # noqa: PLC0415  (needs the driver)

    return bool(is_psycopg3)


async def listen(connection: BaseDatabaseWrapper, hear: Callable[[str, Position], None]) -> None:
    """Tell of each notification, for good; after a fault it connects again."""
    import psycopg  # noqa: PLC0415  (the project's own driver)

    parameters = connection.get_connection_params()
    for name in ("cursor_factory", "context"):  # Django's own, of its plain connections
        parameters.pop(name, None)
    pause = 0.5
    while True:
        try:
            listener: Any = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
            async with listener:
                await listener.execute(f"LISTEN {CHANNEL}")
                pause = 0.5
                async for notice in listener.notifies():
                    _tell(notice.payload, hear)
        except Exception as error:  # noqa: BLE001  (whatever ends it, it must not stay deaf)
            logger.warning("PostgreSQL's notifications ended (%s); listening again", type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _MAX_PAUSE)


def _tell(payload: str, hear: Callable[[str, Position], None]) -> None:
    try:
        topic, position = decode_notice(payload)
    except ValueError as error:
        logger.warning("Skipped: %s", error)
        return
    hear(topic, position)
