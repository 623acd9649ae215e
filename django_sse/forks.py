"""What a forked process must not take for its own."""

import os
from collections.abc import Callable


def after_fork(reset: Callable[[], None]) -> None:
    """Call a function first of all in each process that is forked from this one; Windows forks none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=reset)
