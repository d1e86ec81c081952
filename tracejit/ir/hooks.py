"""Where symbolic sizes report decisions and ask for numbers: the trace that is under way sets these, per thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracejit.ir.dim import Dim


class Hooks(threading.local):
    """Who is told of decisions about symbolic sizes in this thread, and who answers when Python needs a number.

    `compute` and `ufunc` make values of the trace from an operation's name and operands some of which are sizes; they
    return NotImplemented where there is no trace. They are the same for all threads.
    `sizes` are those of the call for which something is traced, by symbol; errors show them. There are none where
    `examples` stand for arguments.
    """

    sizes: dict[str, int] | None = None
    examples: bool = False
    open: frozenset[str] = frozenset()  # symbols of sizes that no trace may be for one value of

    decision: Callable[[str, Dim, int, bool], None] | None = None
    freeze: Callable[[Dim], int] | None = None
    compute: Callable[[str, tuple[Any, ...]], Any] = staticmethod(lambda name, operands: NotImplemented)
    ufunc: Callable[[str, tuple[Any, ...]], Any] = staticmethod(lambda name, operands: NotImplemented)


hooks = Hooks()
