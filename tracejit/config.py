"""The few switches, each with the name of its environment variable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tracejit.context import activity, context


def _flag(name: str) -> bool:
    return os.environ.get(name, "").lower() not in ("", "0", "false", "off", "no")


@dataclass
class Config:
    """Process-wide settings; set them through `tracejit.config`.

    `run_functions_eagerly(True)`: decorated functions run as plain Python (TRACEJIT_EAGER).
    `check`: verify the graph after each pass and compare results with the reference interpreter; faults of the compiler
    are raised, while otherwise a function runs in the interpreter after a warning (TRACEJIT_CHECK).

    Tracebacks of errors show the user's frames only; with TRACEJIT_FULL_TRACEBACK=1 they show all.
    """

    check: bool = _flag("TRACEJIT_CHECK")
    _eagerly: bool = False

    def run_functions_eagerly(self, run_eagerly: bool) -> None:
        """Let decorated functions run as plain Python, for debugging."""
        wanted = bool(run_eagerly)
        if wanted != self._eagerly:
            # compiled functions look at what is going on only while something is
            (activity.enter if wanted else activity.leave)()
            self._eagerly = wanted

    def functions_run_eagerly(self) -> bool:
        """Whether decorated functions run as plain Python in all threads."""
        return self._eagerly


config = Config()
config.run_functions_eagerly(_flag("TRACEJIT_EAGER"))


@contextmanager
def debug() -> Iterator[None]:
    """Decorated functions that this thread calls in the block run as plain Python: line by line, for a debugger."""
    activity.enter()
    context.plain += 1
    try:
        yield
    finally:
        context.plain -= 1
        activity.leave()


def eagerly() -> bool:
    """Whether decorated functions are to run as plain Python."""
    return config.functions_run_eagerly() or context.plain > 0
