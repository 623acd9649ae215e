"""The hosts that a project names, which are Redis servers.

They may hold passwords, so no error shows one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

#: A server, as channels_redis takes it: a URL, ``(host, port)``, or arguments of a connection.
Host = str | tuple[str, int] | Mapping[str, Any]

_LOCAL: Final = "redis://localhost:6379"


def decode_hosts(url: str | None, hosts: Sequence[Host] | None) -> list[dict[str, Any]]:
    """Return the arguments of each server's connections: the local one's where none is given."""
    if url is not None and hosts is not None:
        msg = "url and hosts are both given: give one of them"
        raise ValueError(msg)
    if isinstance(hosts, str | bytes):
        msg = "hosts is one string: give a list, even of one server"
        raise TypeError(msg)
    decoded: list[dict[str, Any]] = []
    for host in hosts or [url or _LOCAL]:
        if isinstance(host, Mapping):
            decoded.append(dict(host))
        elif isinstance(host, str):
            decoded.append({"address": host})
        else:
            decoded.append({"host": host[0], "port": host[1]})
    return decoded


def make_client(host: Mapping[str, Any], timeout: float) -> "redis.Redis":
    """Return a client for plain code."""
    pool = _pool(host, timeout, redis.ConnectionPool, redis.sentinel)
    # A retry after a lost answer would append twice.
    pool.connection_kwargs["retry"] = Retry(NoBackoff(), 0)
    return redis.Redis(connection_pool=pool)


def make_async_client(host: Mapping[str, Any], timeout: float) -> "redis.asyncio.Redis":
    """Return a client for one event loop, whose caller bounds the waiting for answers."""
    pool = _pool(host, timeout, redis.asyncio.ConnectionPool, redis.asyncio.sentinel)
    # A timer for each answer of a batch would cost as much as its reading.
    pool.connection_kwargs["socket_timeout"] = None
    pool.connection_kwargs["retry"] = AsyncRetry(NoBackoff(), 0)
    return redis.asyncio.Redis(connection_pool=pool)


def _pool(host: Mapping[str, Any], timeout: float, pools: Any, sentinels: Any) -> Any:
    # Threads use one connection each, and must not be refused one.
    options = {"max_connections": 2**16, "protocol": 2, **host}
    ours = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    if (address := options.pop("address", None)) is not None:
        pool = _pool_from_url(address, options, pools)
    elif (master := options.pop("master_name", None)) is not None:
        told = {**ours, **(options.pop("sentinel_kwargs", None) or {})}
        sentinel = sentinels.Sentinel(options.pop("sentinels"), sentinel_kwargs=told)
        pool = sentinels.SentinelConnectionPool(master, sentinel, **options)
    else:
        pool = pools(**options)
    # After all else: a layer's socket_timeout is for its blocking reads, and a URL's options win.
    pool.connection_kwargs.update(ours, decode_responses=False, encoding="utf-8", encoding_errors="strict")
    return pool


def _pool_from_url(address: str, options: Mapping[str, Any], pools: Any) -> Any:
    try:
        return pools.from_url(address, **options)
    except ValueError:
        # Without its cause: an error of urllib quotes the password, where that holds a "/".
        msg = (
            "the URL of a Redis server cannot be read (it may hold a password, so it is not shown here): use "
            "redis://, rediss:// or unix://, with the special characters of a password percent-encoded"
        )
        raise ValueError(msg) from None
