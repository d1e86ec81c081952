"""Locks that a forked child can take: those that threads of the parent hold at that moment are free again in it."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def lock() -> Any:
    """A lock like threading's, for short pieces of work in which nobody forks."""
    made = threading.Lock()
    _locks.add(made)
    return made


def rlock() -> Any:
    """A reentrant lock like threading's. A thread that forks while it holds it holds it in the child as well."""
    made = threading.RLock()
    _locks.add(made)
    return made


def _after_fork_in_child() -> None:
    """The other threads are gone; what they held nobody would ever release. threading's own locks do the same."""
    for held in list(_locks):
        owned = getattr(held, "_is_owned", None)
        if owned is None or not owned():
            held._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
