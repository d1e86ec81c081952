"""Functions of the user's that stay Python in a program: what Variables are for them, and their derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from tracejit import forks
from tracejit.autodiff.tape import GradientTape
from tracejit.autograph.reachable import state_of
from tracejit.context import context, reading, tracing
from tracejit.errors import ShapeError, locate
from tracejit.ir.types import DType, TensorType, as_dtype, int64
from tracejit.ops.host import fit, host_call, listed
from tracejit.ops.keptcalls import Call, Kept, is_traced_function
from tracejit.ops.unnamed import Unnamed, assigning
from tracejit.tensor import Operand, Tensor, Variable, convert, quietly, wrap

State = Sequence[tuple[Variable, bool]]
_lock = forks.rlock()  # Variables hold the values of one running call at a time


class _Python(Kept):
    """A function that stays Python. Operands of its node are its arguments and the Variables that it may read; results
    are its own, the number of the call if it has derivatives, and the Variables that it may have assigned."""

    __slots__ = ("func", "count", "variables", "assigned", "unnamed")

    def __init__(
        self, func: Callable[..., Any], types: Sequence[TensorType], xs: Sequence[Tensor], state: State, label: str,
        moves: bool,
    ) -> None:  # fmt: skip
        self.func, self.count = func, len(xs)
        self.variables = [v for v, _ in state]
        self.assigned = [i for i, (_, may) in enumerate(state) if may]
        sources = any(x.dtype.is_inexact for x in (*xs, *self.variables))
        moves = moves and sources and any(t.dtype.is_inexact for t in types)  # whether it has derivatives
        super().__init__(self._call, label, types, moves)
        self.unnamed = Unnamed(self.variables) if is_traced_function() else None

    def _call(self, *arrays: Any) -> Sequence[Any]:
        heard = self.is_heard
        args: list[Operand] = [wrap(quietly(np.array, a)) for a in arrays[: self.count]]
        told = nullcontext() if self.unnamed is None else self.unnamed.watched(self.name)
        with tracing(None), self._holding(arrays[self.count :]) as new, told:
            call = self._heard(args) if heard else None
            ys = listed(self.func(*args), self.types) if call is None else call.results
        number = 0 if call is None else self.keep(call, arrays)
        made = [*ys, *([np.int64(number)] if self.moves else []), *new]
        if call is not None:
            call.made = made
        return made

    @contextmanager
    def _holding(self, arrays: Sequence[Any]) -> Iterator[list[Any]]:
        """Variables hold what they do at this place of the program; afterwards what the program knows them by."""
        new: list[Any] = []
        if not arrays:
            yield new
            return
        with _lock:
            own = [v._a for v in self.variables]
            given = [np.array(a, order="C") for a in arrays]
            for v, a in zip(self.variables, given, strict=True):
                v._a = a
            try:
                yield new
                for i, (v, a) in enumerate(zip(self.variables, given, strict=True)):
                    if i not in self.assigned and v._a is not a:
                        raise assigning(self.name, v)
                new += [self.variables[i]._a for i in self.assigned]
            finally:
                for v, a in zip(self.variables, own, strict=True):
                    v._a = a

    def _heard(self, args: Sequence[Any]) -> Call:
        sources = [x for x in (*args, *self.variables) if x.dtype.is_inexact]
        with GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(*sources)
            ys = listed(self.func(*args), self.types)
        return Call(tape, sources, ys)

    def repeated(self, args: Sequence[Tensor]) -> Call:
        with self._holding([t._a for t in args[self.count :]]):
            return self._heard(args[: self.count])


def emitted(
    func: Callable[..., Any], xs: Sequence[Any], types: Sequence[TensorType], label: str, state: State,
    moves: bool = True,
) -> list[Any]:  # fmt: skip
    """The results of a function of eager tensors, which is called when the program runs."""
    state = state if is_traced_function() else ()
    f = _Python(func, types, xs, state, label, moves)
    with reading(None):
        extra = [TensorType(int64, ())] if f.moves else []
        new = [TensorType(as_dtype(f.variables[i]._a.dtype), f.variables[i]._a.shape) for i in f.assigned]
        made = host_call(*xs, *f.variables, f=f, types=(*types, *extra, *new))
        every = list(made) if type(made) is tuple else [made]
        for i, t in zip(f.assigned, every[len(types) + len(extra) :], strict=True):
            f.variables[i].assign(t)
    return every[: len(types)]


def _result_types(Tout: Any) -> list[TensorType]:
    types = []
    for s in Tout if isinstance(Tout, (list, tuple)) else [Tout]:
        shaped = hasattr(s, "dtype") and hasattr(s, "shape") and not isinstance(s, DType)
        types.append(TensorType(as_dtype(s.dtype), tuple(s.shape)) if shaped else TensorType(as_dtype(s), ()))
    return types


def _need_sizes(types: Sequence[TensorType], what: str) -> None:
    if any(d is None for t in types for d in t.shape):
        said = f"{what} needs the sizes of its results in a trace"
        raise locate(ShapeError(said, remedy="give them in the TensorSpecs of Tout"))


def py_function(func: Callable[..., Any], inp: Sequence[Any], Tout: Any, name: str | None = None) -> Any:
    """`func(*inp)` as Python, with eager tensors, also inside a traced function.

    Parameters
    ----------
    Tout : TensorSpecs of the results, one or a list or tuple of them, which is what comes back; a dtype alone stands
        for a 0-d tensor, and an empty list for no result. In a trace all sizes have to be given

    Results are brought to the dtypes of `Tout`. It has a gradient where `func` is made of tensor operations. Raises
    `ArgumentError` if it returns something else, eagerly and traced.
    """
    types = _result_types(Tout)
    label = getattr(func, "__name__", "py_function")
    if context.trace is None:
        made = _checked(listed(func(*[convert(x) for x in inp]), types), types, label)
    else:
        _need_sizes(types, "py_function")
        made = emitted(func, [convert(x) for x in inp], types, label, state_of(func))
    return _given_back(made, Tout)


def numpy_function(
    func: Callable[..., Any], inp: Sequence[Any], Tout: Any, stateful: bool = True, name: str | None = None
) -> Any:
    """`func(*inp)` as Python, with NumPy arrays, also inside a traced function. It has no gradient.

    `Tout` gives the TensorSpecs of the results, one or a list or tuple of them, which is what comes back; a dtype alone
    stands for a 0-d tensor. In a trace all sizes have to be given. Raises `ArgumentError` for other results.
    """
    types = _result_types(Tout)
    label = getattr(func, "__name__", "numpy_function")

    def call(*tensors: Any) -> Sequence[Any]:
        return [np.asarray(y) for y in listed(func(*[np.array(t._a) for t in tensors]), types)]

    if context.trace is None:
        with tracing(None):
            made = call(*[convert(x) for x in inp])
        return _given_back(_checked(made, types, label), Tout)
    _need_sizes(types, "numpy_function")
    return _given_back(emitted(call, [convert(x) for x in inp], types, label, state_of(func), False), Tout)


def _checked(values: Sequence[Any], types: Sequence[TensorType], label: str) -> list[Tensor]:
    """The results of an eager call."""
    made = [convert(v) for v in values]
    for i, (t, said) in enumerate(zip(made, types, strict=True)):
        fit(t._a, said, i, label)
    return made


def _given_back(made: list[Any], Tout: Any) -> Any:
    if isinstance(Tout, (list, tuple)):
        return type(Tout)(made) if made else None
    return made[0]
