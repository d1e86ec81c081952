"""Functions of the user's that stay Python in a program: what Variables are for them, and their derivatives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from tracejit import forks
from tracejit.autodiff.reverse import zeros_like
from tracejit.autodiff.tape import GradientTape
from tracejit.autograph.reachable import state_of
from tracejit.context import context, reading, tracing
from tracejit.errors import ShapeError, locate
from tracejit.ir.types import DType, TensorType, as_dtype, int64
from tracejit.ops.host import Callback, Keeping, fit, host_call, listed
from tracejit.ops.unnamed import Unnamed, assigning
from tracejit.tensor import Operand, Tensor, Variable, convert, quietly, wrap

State = Sequence[tuple[Variable, bool]]
_MOST = 1024  # calls whose derivatives may still be asked for
_USED = 16  # of these, such whose derivatives have been asked for already
_lock = forks.rlock()  # Variables hold the values of one running call at a time


class _Kept:
    """A call that has been made, for its derivatives."""

    __slots__ = ("tape", "sources", "results", "given", "made", "used", "round")

    def __init__(
        self, tape: GradientTape, sources: list[Operand], results: list[Any], given: Any = None, round: int = 0
    ) -> None:
        self.tape, self.sources, self.results, self.used = tape, sources, results, False
        self.given = given  # what tells such calls by their operands
        self.round = round  # how often calls have come after derivatives were taken of earlier ones
        self.made: list[Any] = []  # what the call gave, for when its step is taken again


class _Python(Keeping):
    """A function that stays Python. Operands of its node are its arguments and the Variables that it may read; results
    are its own, the number of the call if it has derivatives, and the Variables that it may have assigned."""

    __slots__ = (
        "func", "types", "count", "variables", "assigned", "moves", "inside", "kept", "numbers", "second", "round",
        "asked", "unnamed",
    )  # fmt: skip

    def __init__(
        self, func: Callable[..., Any], types: Sequence[TensorType], xs: Sequence[Tensor], state: State, label: str,
        moves: bool,
    ) -> None:  # fmt: skip
        super().__init__(self._call, label)
        self.func, self.types, self.count = func, types, len(xs)
        self.variables = [v for v, _ in state]
        self.assigned = [i for i, (_, may) in enumerate(state) if may]
        sources = any(x.dtype.is_inexact for x in (*xs, *self.variables))
        self.moves = moves and sources and any(t.dtype.is_inexact for t in types)  # whether it has derivatives
        self.inside = False  # whether the program itself takes derivatives of it
        self.kept: dict[int, _Kept] = {}
        self.numbers = itertools.count(1)
        self.round, self.asked = 0, False
        self.second: _Again | None = None
        self.unnamed = Unnamed(self.variables) if _is_traced_function() else None

    def _call(self, *arrays: Any) -> Sequence[Any]:
        heard = self.moves and (self.inside or bool(context.tapes))
        args: list[Operand] = [wrap(quietly(np.array, a)) for a in arrays[: self.count]]
        told = nullcontext() if self.unnamed is None else self.unnamed.watched(self.name)
        with tracing(None), self._holding(arrays[self.count :]) as new, told:
            number, ys = self._heard(args, arrays) if heard else (0, listed(self.func(*args), self.types))
        made = [*ys, *([np.int64(number)] if self.moves else []), *new]
        if heard:
            self.kept[number].made = made
        return made

    def again(self) -> _Again:
        """What stands in its place where a step is taken a second time."""
        self.inside |= _is_traced_function()
        if self.second is None:
            self.second = _Again(self)
        return self.second

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

    def _heard(self, args: list[Operand], arrays: Sequence[Any]) -> tuple[int, list[Any]]:
        sources = self._inexact([*args, *self.variables])
        with GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(*sources)
            ys = listed(self.func(*args), self.types)
        number = next(self.numbers)
        self.round, self.asked = self.round + self.asked, False
        used = [k for k, x in list(self.kept.items()) if x.used]
        for k in [*used[: max(len(used) - _USED, 0)], *list(self.kept)[: max(len(self.kept) - _MOST, 0)]]:
            self.kept.pop(k, None)
        self.kept[number] = _Kept(tape, sources, ys, _bytes(arrays), self.round)
        return number, ys

    def _inexact(self, xs: Sequence[Any]) -> list[Any]:
        return [x for x in xs if x.dtype.is_inexact]

    def _again(self, args: Sequence[Tensor]) -> _Kept:
        """The call made again, where nothing is left of it."""
        sources = self._inexact([*args[: self.count], *self.variables])
        with GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(*sources)
            ys = listed(self.func(*args[: self.count]), self.types)
        return _Kept(tape, sources, ys)

    # --- derivatives --------------------------------------------------------------------------------------------------
    def _number(self, y: Any) -> Any:
        self.inside |= _is_traced_function()
        return y[len(self.types)]

    def vjp(self, g: Any, y: Any, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self.moves:
            return (None,) * len(xs)
        gs = (g if type(g) is tuple else (g,))[: len(self.types)]
        wanted = [i for i, x in enumerate(xs) if x.dtype.is_inexact]

        def pull(call: _Kept, gs: Sequence[Any]) -> Sequence[Any]:
            call.used = self.asked = True
            pairs = [(y, g) for y, g in zip(call.results, gs, strict=True) if isinstance(y, Operand)]
            found = call.tape._gradient([y for y, _ in pairs], call.sources, [g for _, g in pairs], "zero", True)
            return list(found)

        back = [TensorType(xs[i].dtype, xs[i].type.shape) for i in wanted]
        made = iter(self._derived(pull, y, xs, gs, back, "gradient"))
        return tuple([next(made) if i in wanted else None for i in range(len(xs))])

    def jvp(self, ts: Any, y: Any, xs: tuple[Any, ...]) -> Any:
        outs = y if type(y) is tuple else (y,)
        moved = [i for i, t in enumerate(self._inexact_only(ts, xs)) if t is not None]
        wanted = [i for i, t in enumerate(self.types) if t.dtype.is_inexact] if self.moves else []
        if not wanted:
            return (None,) * len(outs) if len(outs) > 1 else None

        def push(call: _Kept, given: Sequence[Any]) -> Sequence[Any]:
            call.used = self.asked = True
            ys = [call.results[i] for i in wanted]
            sources = [call.sources[i] for i in moved]
            with GradientTape(watch_accessed_variables=False) as tape:
                gs = [zeros_like(convert(y)) for y in ys]
                tape.watch(*gs)
                back = call.tape._gradient([convert(y) for y in ys], sources, gs, "zero", True)
            return list(tape.gradient(back, gs, output_gradients=list(given), unconnected_gradients="zero"))

        given = [t for t in self._inexact_only(ts, xs) if t is not None]
        made = iter(self._derived(push, y, xs, given, [self.types[i] for i in wanted], "tangent"))
        every = [next(made) if i in wanted else None for i in range(len(outs))]
        return tuple(every) if len(every) > 1 else every[0]

    def _inexact_only(self, ts: Sequence[Any], xs: Sequence[Any]) -> list[Any]:
        return [t for t, x in zip(ts, xs, strict=True) if x.dtype.is_inexact]

    def _derived(
        self, derive: Callable[[_Kept, Sequence[Any]], Sequence[Any]], y: Any, xs: Sequence[Any],
        given: Sequence[Any], types: Sequence[TensorType], what: str,
    ) -> tuple[Any, ...]:  # fmt: skip
        """A node that takes a derivative of the call with this number. Of itself it has one too, for which the function
        is called again."""

        def call(*arrays: Any) -> Sequence[Any]:
            tensors = [wrap(quietly(np.array, a)) for a in arrays]
            own, rest = tensors[1 : 1 + len(xs)], tensors[1 + len(xs) :]
            with tracing(None):
                kept = self.kept.get(int(arrays[0]))
                with self._holding(arrays[1 + self.count : 1 + len(xs)]):
                    kept = self._again(own) if kept is None else kept
                return listed(derive(kept, rest), types)

        def of_tensors(number: Any, *tensors: Any) -> Sequence[Any]:
            return derive(self._again(tensors[: len(xs)]), tensors[len(xs) :])

        f = Callback(call, f"{what} of {self.name}", of_tensors)
        made = host_call(self._number(y), *xs, *given, f=f, types=tuple(types))
        return made if type(made) is tuple else (made,)


class _Again(Keeping):
    """The same call where a step is taken a second time: it gives what it gave."""

    __slots__ = ("of", "_last")

    def __init__(self, of: _Python) -> None:
        super().__init__(self._call, of.name)
        self.of, self._last = of, dict[Any, int]()

    def _call(self, *arrays: Any) -> Sequence[Any]:
        key = _bytes(arrays)
        self.of.asked = True
        known = [(n, x) for n, x in list(self.of.kept.items()) if x.given == key]
        if not known:
            return self.of.call(*arrays)
        found = [n for n, x in known if x.round == known[-1][1].round]
        later = [n for n in found if n > self._last.get(key, 0)]
        number = later[0] if later else found[0]
        self._last = {k: n for k, n in self._last.items() if n in self.of.kept} | {key: number}
        return self.of.kept[number].made

    def again(self) -> _Again:
        return self

    def vjp(self, g: Any, y: Any, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        return self.of.vjp(g, y, xs)

    def jvp(self, ts: Any, y: Any, xs: tuple[Any, ...]) -> Any:
        return self.of.jvp(ts, y, xs)


def _bytes(arrays: Sequence[Any]) -> Any:
    return tuple([np.asarray(a).tobytes() for a in arrays])


def _is_traced_function() -> bool:
    """Whether the trace at hand is part of that of a function, and not of a graph of values."""
    trace: Any = context.trace
    while trace is not None and trace.parent is not None and not trace.alone:
        trace = trace.parent
    return trace is not None and not trace.alone


def emitted(
    func: Callable[..., Any], xs: Sequence[Any], types: Sequence[TensorType], label: str, state: State,
    moves: bool = True,
) -> list[Any]:  # fmt: skip
    """The results of a function of eager tensors, which is called when the program runs."""
    state = state if _is_traced_function() else ()
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
