"""Work that a thread does while the program goes on: one piece after another, in the order asked for."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """Hands what `begin` is given to `work`, in a thread that ends when nothing is left; `first` sees the first piece.

    For modules, which live as long as the process.
    """

    def __init__(self, name: str, work: Callable[[T], object], first: Callable[[T], object] | None = None) -> None:
        self.name, self.work, self.first = name, work, first
        self._empty()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._empty)

    def _empty(self) -> None:
        """As it is at first, and in a forked child: what the thread was to do is begun anew there."""
        self._lock, self._running = threading.Lock(), False
        self._wanted: deque[T] = deque()

    def begin(self, item: T) -> None:
        """Have the thread do this piece."""
        with self._lock:
            self._wanted.append(item)
            start, self._running = not self._running, True
        if start:
            # no daemon: it must not be inside LLVM while the process ends
            with contextlib.suppress(RuntimeError):  # the process is ending, or has all the threads that it may have
                threading.Thread(target=self._run, args=(item,), name=f"tracejit {self.name}").start()

    def _run(self, start: T) -> None:
        if self.first is not None:
            self.first(start)
        while True:
            with self._lock:
                if not self._wanted:
                    self._running = False
                    return
                item = self._wanted.popleft()
            if threading.main_thread().is_alive():  # else the process is ending
                self.work(item)
