"""Who evaluates operations now, and which tapes listen, per thread. Knows nothing of tensors."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tracejit import forks


class Evaluator(Protocol):
    """Takes the place of the eager kernels while a function is traced."""

    def evaluate(self, op: Any, inputs: Any, attrs: Any, /) -> Any: ...
    def lift(self, array: Any, original: Any, /) -> Any: ...
    def scalar(self, number: Any, dtype: Any, weak: bool, /) -> Any: ...
    def read(self, variable: Any, /) -> Any: ...
    def assign(self, variable: Any, value: Any, /) -> None: ...
    def need_value(self, value: Any, test: bool = False, /) -> None: ...


class Listener(Protocol):
    """Hears of every operation: a tape. `knows` tells whether it may ask for derivatives along this tensor."""

    def record(self, op: Any, inputs: Any, values: Any, attrs: Any, outputs: Any, /) -> None: ...
    def knows(self, tensor: Any, /) -> bool: ...


class Activity:
    """`busy` counts traces and tapes of all threads: while it is 0 an eager operation need not look any further."""

    __slots__ = ("busy", "_lock", "_of_thread")

    def __init__(self) -> None:
        self.busy = 0
        self._of_thread: dict[int, int] = {}
        self._lock = forks.lock()

    def enter(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            self.busy += 1
            self._of_thread[thread] = self._of_thread.get(thread, 0) + 1

    def leave(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            self.busy -= 1
            left = self._of_thread.get(thread, 0) - 1
            if left:
                self._of_thread[thread] = left
            else:
                del self._of_thread[thread]

    def forget_others(self) -> None:
        """In a forked child there is only the thread that forked."""
        thread = threading.get_ident()
        self.busy = max(self._of_thread.get(thread, 0), 0)  # below 0 when it left what another thread entered
        self._of_thread = {thread: self.busy} if self.busy else {}


class Context(threading.local):
    def __init__(self) -> None:
        self.trace: Evaluator | None = None
        self.tapes: tuple[Listener, ...] = ()
        self.plain = 0  # blocks around in which functions run as plain Python
        self.refused: Exception | None = None  # what code that is not converted was told when it asked for a value
        self.autocast: Any = None  # the type that floating Variables are read in, if not their own
        self.told: Any = None  # who is told of Variables that are about to be assigned eagerly
        self.masked = False  # whether the cotangent at hand comes from the branches of a selection


activity = Activity()
context = Context()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=activity.forget_others)


running: dict[int, int] = {}  # threads that trace a function, each with the scope of its trace


@contextmanager
def tracing(evaluator: Evaluator | None, tapes: tuple[Listener, ...] = ()) -> Iterator[None]:
    """Evaluate operations with `evaluator` (None: eagerly); tapes from outside do not listen inside."""
    before = context.trace, context.tapes
    activity.enter()
    context.trace, context.tapes = evaluator, tapes
    try:
        yield
    finally:
        context.trace, context.tapes = before
        activity.leave()


@contextmanager
def reading(dtype: Any) -> Iterator[None]:
    """Operations read floating Variables in this type; None: in their own."""
    before = context.autocast
    activity.enter()  # quick ways do not look for it
    context.autocast = dtype
    try:
        yield
    finally:
        context.autocast = before
        activity.leave()


def listen(tape: Listener) -> None:
    activity.enter()
    context.tapes = (*context.tapes, tape)


def unlisten(tape: Listener) -> None:
    context.tapes = tuple(t for t in context.tapes if t is not tape)
    activity.leave()
