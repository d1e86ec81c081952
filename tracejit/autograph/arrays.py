"""NumPy arrays: those from outside that NumPy itself reads are guarded; a traced function writes to its own only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tracejit.autograph import places, reads
from tracejit.autograph.reads import LARGEST
from tracejit.context import context
from tracejit.errors import ConversionError, locate
from tracejit.ir.graph import Value
from tracejit.tensor import Operand
from tracejit.tree import flatten


def root(x: Any) -> Any:
    """The array whose memory it is."""
    while isinstance(x.base, np.ndarray):
        x = x.base
    return x


def fresh(x: Any, given: Iterable[Any] = ()) -> Any:
    """A result of NumPy's: if it is an array that was not given, the function has made it."""
    if type(x) is np.ndarray and x.base is None and not any(x is y for y in given):
        places.born(x)
    return x


def is_own(x: Any) -> bool:
    """Whether the memory of an array is the trace's own."""
    listener = places.listener()
    return listener is not None and id(root(x)) in listener.made


reads.is_own["array"] = is_own


def among(given: Any) -> list[Any]:
    """The arrays in what a call is given: themselves, or in lists, tuples and dicts."""
    if isinstance(given, np.ndarray):
        return [given]
    if isinstance(given, dict):
        given = list(given.values())
    if not isinstance(given, (list, tuple)) or len(given) > reads.MOST:
        return []
    return [x for y in given if isinstance(y, (np.ndarray, list, tuple, dict)) for x in among(y)]


def used(given: list[Any], made: Any, ours: bool = False) -> None:
    """Arrays were operands. Where they are no inputs of the trace NumPy has read them: their numbers are part of it."""
    inputs = ours or (type(made) is not np.ndarray and any(isinstance(y, Operand) for y in flatten(made)[0]))
    for x in given:
        reads.array_read(x)
        if not (inputs and _is_input(x)):
            reads.content(x)


def _is_input(x: Any) -> bool:
    trace: Any = context.trace
    while trace is not None:
        if id(x) in trace.captures:
            return True
        trace = trace.parent
    return False


def of_method(f: Any, made: Any) -> None:
    """A method of an array has given `made`: a view of it, or else something of its numbers."""
    x = getattr(f, "__self__", None)
    if isinstance(x, np.ndarray) and not (isinstance(made, np.ndarray) and root(made) is root(x)):
        reads.content(x)


def writes(x: Any, item: bool = False) -> None:
    """Items of an array are about to be set; `item`: by `put`."""
    if isinstance(x, np.ndarray) and places.listener() is not None and not places.is_born(root(x)):
        if not (item and from_outside(x)):
            raise _refused()


def from_outside(x: Any) -> bool:
    """Whether an array is none of the trace's own, so that writing to it is left to each call."""
    return places.listener() is not None and not is_own(x) and x.flags.writeable


def later(x: Any, name: str, *args: Any) -> None:
    """A method that writes to an array from outside, of which the function sees nothing: each call ends with it."""

    def refuse() -> None:
        raise _refused()

    own = root(x)
    if any(y is not None and root(y) is own for y in reads.arrays_read()):
        refuse()
    if any(isinstance(k, slice) and isinstance(y, Operand) for k in flatten(args)[0] for y in _bounds(k)):
        refuse()
    args = tuple([a.copy() if isinstance(a, np.ndarray) else a for a in args])
    listener = places.listener()
    if listener.elsewhere:
        listener.defer(x, name, args, {})
    else:
        listener.calls(x, name, args, {})
    reads.defer(own, refuse)


def _bounds(k: Any) -> tuple[Any, ...]:
    return (k.start, k.stop, k.step) if isinstance(k, slice) else ()


def _refused() -> ConversionError:
    said = "a NumPy array from outside the function, or from before a branch or loop of it, is written to"
    return locate(ConversionError(said, remedy="use a tj.Variable, or return the value"))  # type: ignore[return-value]


def put(x: Any, key: Any, value: Any) -> None:
    """`x[key] = value` of an array, in which no traced tensor can stand."""
    if from_outside(x):
        later(x, "__setitem__", key, value)
        return
    if any(isinstance(y, Operand) and type(y._a) is Value for y in flatten([key, value])[0]):
        said = "a traced tensor is put into a NumPy array"
        raise locate(ConversionError(said, remedy="stack tensors, or use tj.tensor_scatter_nd_update"))
    x[key] = value


_IN_PLACE = {"sort", "fill", "partition", "put", "itemset", "setfield", "byteswap", "resize", "setflags"}
_WRITING = {
    "copyto", "put", "place", "putmask", "fill_diagonal", "put_along_axis", "nan_to_num", "at", "shuffle", "readinto",
}  # fmt: skip
_MOST = 1 << 26  # bytes of an array that other code than NumPy's is given


def copies(given: Iterable[Any], named: dict[str, Any]) -> list[tuple[Any, Any]]:
    """The arrays among what code that is not converted is given, which may write to them, with what they hold."""
    if places.listener() is None:
        return []
    f, *rest = given
    owner, name = getattr(f, "__self__", None), getattr(f, "__name__", None)
    if isinstance(owner, np.ndarray) and name in ("resize", "setflags") and from_outside(owner):
        raise _refused()
    every = [x for x in (f, owner, *rest) if isinstance(x, np.ndarray)]
    every += [x for y in rest if type(y) in (tuple, list) and len(y) < 8 for x in y if isinstance(x, np.ndarray)]
    some = [x for x in every if x.nbytes <= _most(f, name, owner, rest, named) and x.flags.writeable]
    return [(x, x.copy()) for x in some if not places.is_born(root(x))]


def _most(f: Any, name: Any, owner: Any, given: list[Any], named: dict[str, Any]) -> int:
    """How large an array may be of which it is told whether a function writes to it."""
    if isinstance(owner, np.ndarray):
        return _MOST if name in _IN_PLACE or "out" in named else LARGEST
    numpys = isinstance(f, np.ufunc) or str(getattr(f, "__module__", None)).partition(".")[0] == "numpy"
    writes = "out" in named or name in _WRITING or (isinstance(f, np.ufunc) and len(given) > f.nin)
    return _MOST if writes or not numpys else LARGEST


def unchanged(before: list[tuple[Any, Any]]) -> None:
    """Raises `ConversionError` if arrays hold something else than before."""
    for x, old in before:
        if x.tobytes() != old.tobytes():
            x[...] = old
            raise _refused()
