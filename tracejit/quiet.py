"""NumPy called without its warnings, and with its results where the memory of tensors begins."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tracejit.ir.types import canonical

# np.errstate costs four times what a small np.add does; a context that holds its setting costs a tenth of it
_silent = contextvars.Context()
_silent.run(lambda: np.errstate(all="ignore").__enter__())
run_silently = _silent.run


def quietly(f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call `f` without NumPy's warnings of overflow, division by zero and the like."""
    try:
        return run_silently(f, *args, **kwargs)
    except RuntimeError:  # another thread, or a finalizer in this one, is in that context
        return _silent.copy().run(f, *args, **kwargs)


# --- memory --------------------------------------------------------------------------------------------------------
ALIGNMENT = 64


def memory_handler() -> list[tuple[contextvars.ContextVar[Any], Any]]:
    """Where NumPy keeps its memory handler and the handler that the ops' calls of it have, if that is one of ours."""
    return [(var, value) for var, value in _silent.items() if var.name == "current_allocator"]


@contextlib.contextmanager
def our_memory() -> Iterator[None]:
    """What NumPy makes meanwhile lies where our own calls of it put their results."""
    tokens = [(var, var.set(value)) for var, value in memory_handler()]
    try:
        yield
    finally:
        for var, token in tokens:
            var.reset(token)


def aligned(a: np.ndarray) -> np.ndarray:
    """An array of an element type of ours that begins where the memory of tensors begins: itself, or a copy."""
    a = quietly(canonical, a)
    begins = a.__array_interface__["data"][0] % ALIGNMENT == 0
    return a if begins else quietly(np.array, a, order="K", copy=True)  # type: ignore[no-any-return]
