"""The history in Redis Streams, which processes share.

One stream key holds a topic's log. Its ids are positions, ``<offset>-<tag>``, so that reading from a
position is one range, which also proves that very entry; the head is the newest id, so log and head
live and die together. A hash beside it, with the same hash tag, remembers versions and idempotency keys.
Every call is one Lua script in one round trip, on the primary, by Redis's own clock.

A topic takes at most ``length`` events, each with about 70 bytes beside its name and text, and for each of at
most ``length`` versions and as many idempotency keys about 200 bytes, measured on Redis 7. Both keys
expire when nobody has appended or followed for their age and an hour. Let ``maxmemory-policy`` be
``noeviction``: an evicted log is a reset for everybody, loud, but a loss. Redis 6.2 is the oldest that works.
"""

from django_sse.history.redis.history import RedisHistory

__all__ = ["RedisHistory"]
