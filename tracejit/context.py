"""Who evaluates operations now, and which tapes listen, per thread. Knows nothing of tensors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Evaluator(Protocol):
    """Takes the place of the eager kernels while a function is traced."""

    def evaluate(self, op: Any, inputs: Any, attrs: Any, /) -> Any: ...
    def lift(self, array: Any, original: Any, /) -> Any: ...
    def scalar(self, number: Any, dtype: Any, weak: bool, /) -> Any: ...
    def read(self, variable: Any, /) -> Any: ...
    def assign(self, variable: Any, value: Any, /) -> None: ...
    def need_value(self, value: Any, /) -> None: ...


class Listener(Protocol):
    """Hears of every operation: a tape. `knows` tells whether it may ask for derivatives along this tensor."""

    def record(self, op: Any, inputs: Any, values: Any, attrs: Any, outputs: Any, /) -> None: ...
    def knows(self, tensor: Any, /) -> bool: ...


class Activity:
    """`busy` counts traces and tapes of all threads: while it is 0 an eager operation need not look any further."""

    __slots__ = ("busy", "_lock")

    def __init__(self) -> None:
        self.busy = 0
        self._lock = threading.Lock()

    def enter(self) -> None:
        with self._lock:
            self.busy += 1

    def leave(self) -> None:
        with self._lock:
            self.busy -= 1


class Context(threading.local):
    def __init__(self) -> None:
        self.trace: Evaluator | None = None
        self.tapes: tuple[Listener, ...] = ()
        self.plain = 0  # blocks around in which functions run as plain Python
        self.refused: Exception | None = None  # what code that is not converted was told when it asked for a value
        self.autocast: Any = None  # the type that floating Variables are read in, if not their own
        self.masked = False  # whether the cotangent at hand comes from the branches of a selection


activity = Activity()
context = Context()


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
