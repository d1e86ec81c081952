"""Runs functions from their Numba source: executed as a module, compiled by Numba or as plain Python."""

from __future__ import annotations

import builtins
import importlib
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.lower import numba_program
from tracejit.lower.numba_dialect import CPU, Dialect


def source(c: Any, dialect: Dialect = CPU) -> numba_program.Module:
    """The source of a concrete function."""
    traces = c.function.traces.items()  # `c` may be one of them as it was asked for
    structure = next((s for (s, _), cs in traces if any(x.executable is c.executable for x in cs)), None)
    return numba_program.module(c, structure, dialect)


def _plain_numba() -> types.ModuleType:
    """A stand-in for Numba that compiles nothing."""
    m = types.ModuleType("numba")
    m.njit = lambda *args, **options: args[0] if args else lambda f: f  # type: ignore[attr-defined]
    m.prange = range  # type: ignore[attr-defined]
    return m


def load(text: str, compiled: bool = True) -> dict[str, Any]:
    """The names that a module's text defines. Without `compiled` its kernels stay plain Python."""
    space: dict[str, Any] = {"__name__": "tracejit_source"}
    if not compiled:
        plain = _plain_numba()

        def find(name: str, *args: Any, **kwargs: Any) -> Any:
            return plain if name == "numba" else importlib.__import__(name, *args, **kwargs)

        space["__builtins__"] = {**vars(builtins), "__import__": find}
    exec(compile(text, "<numba source>", "exec"), space)
    return space


Runner = Callable[[Sequence[Any]], tuple[list[np.ndarray], list[np.ndarray]]]


def prepare(c: Any, compiled: bool = True) -> Runner:
    """A concrete function from its source: arrays → its outputs, and new values of the Variables that it assigns.

    Parameters
    ----------
    compiled : by Numba, at the first call; otherwise the source runs as plain Python, slowly

    It is given an array for each argument that is a tensor or a number. The Variables themselves keep their values.
    """
    exe = c.executable
    m = source(c)
    main = load(m.text, compiled)["main"]

    def call(arrays: Sequence[Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        given = exe.all_arrays([np.asarray(a) for a in arrays])
        given += [v.node.attr("value").array for v in m.parameters[len(given) :] if v.node is not None]
        with np.errstate(all="ignore"):
            out = main(*given)
        results = [np.asarray(x) for x in ([out] if m.results == 1 else out)]
        return results[: exe.parts.outputs], results[exe.parts.outputs :]

    return call


def run(c: Any, arrays: Sequence[Any], compiled: bool = True) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What `prepare` makes, called once."""
    return prepare(c, compiled)(arrays)
