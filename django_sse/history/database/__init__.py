"""The history in a database: Django's own, without any other server.

`history` is the contract, `line` the thread and connection, `statements` the SQL, `entries` how topics and
entries are kept, `notifications` PostgreSQL's doorbell.
"""

from django_sse.history.database.history import DatabaseHistory

__all__ = ["DatabaseHistory"]
