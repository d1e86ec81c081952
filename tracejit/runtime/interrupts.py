"""Signals held back from Python's handlers while a call does what is to be done whole."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import threading
from collections.abc import Callable
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGPROF", "SIGQUIT", "SIGBREAK")
SIGNALS: tuple[int, ...] = tuple([getattr(_signal, n) for n in _NAMES if hasattr(_signal, n)])
_before: list[tuple[int, Any]] = []  # handlers that another stands for, while signals are held
_came: list[int] = []
_blocks, _holder = [0], [0]  # how many there are, and which of them holds signals


def _note(number: int, frame: object) -> None:
    _came.append(number)


def hold(_: object = None) -> None:
    """Let signals wait until `release`. Python's handlers run in the main thread only: in others nothing is done.

    What has come before is handled here, before anything waits.
    """
    if _before or threading.get_ident() != threading.main_thread().ident:
        return
    try:
        for s in SIGNALS:
            h = _signal.getsignal(s)
            # asyncio's handler does nothing itself, and what it has set besides would be lost
            if callable(h) and getattr(h, "__module__", "") != "asyncio.unix_events":
                _holder[0] = _blocks[0]
                _before.append((s, h))
                _signal.signal(s, _note)
    except BaseException:
        release()
        raise


def whole_call(f: Callable[[], None]) -> None:
    """Call a function, whatever signals come; what their handlers raise is raised after it."""
    error: BaseException | None = None
    with whole:
        while True:
            try:
                hold()
                break
            except BaseException as e:
                error = e
        f()
    if error is not None:
        raise error


def _restore() -> None:
    while _before:
        s, h = _before[-1]
        _signal.signal(s, h)
        _before.pop()


def release() -> None:
    """Let the handlers run for the signals that have come since; what they raise is raised here.

    No signal comes to this thread while the handlers are put back: what one raised would keep the others out.
    """
    error: BaseException | None = None
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, SIGNALS) if hasattr(_signal, "pthread_sigmask") else None
    try:
        _restore()
    except BaseException as e:  # one that another thread has got
        error = e
        _restore()
    try:
        if mask is not None:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    except BaseException as e:
        error = e
    while _came:
        try:
            _signal.raise_signal(_came.pop(0))
        except BaseException as e:
            error = e
    if error is not None:
        raise error


class Whole:
    """A block that is left with the signals released. They are held from `hold` on; blocks may stand in one another."""

    __slots__ = ()

    def __enter__(self) -> None:
        if threading.get_ident() == threading.main_thread().ident:
            if _before and _holder[0] > _blocks[0]:  # the block has ended, but not its hold
                release()
            _blocks[0] += 1

    def __exit__(self, *_: object) -> None:
        if threading.get_ident() == threading.main_thread().ident:
            mine = _blocks[0]
            _blocks[0] -= 1
            if _before and _holder[0] >= mine:
                release()


whole = Whole()
