"""Calls of functions that stay Python, kept for their derivatives, and these for theirs: none is made again."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.autodiff.reverse import zeros_like
from tracejit.autodiff.tape import GradientTape
from tracejit.context import context, tracing
from tracejit.ir.types import TensorType, int64
from tracejit.ops.host import Keeping, host_call, listed
from tracejit.tensor import Operand, Tensor, convert, quietly, wrap

_MOST = 1024  # calls whose derivatives may still be asked for
_USED = 16  # of these, such whose derivatives have been asked for already
Derive = Callable[["Call", Sequence[Any]], Sequence[Any]]


class Call:
    """A call that has been made, for its derivatives."""

    __slots__ = ("tape", "sources", "results", "given", "made", "used", "round")

    def __init__(self, tape: GradientTape, sources: list[Operand], results: list[Any]) -> None:
        self.tape, self.sources, self.results, self.used = tape, sources, results, False
        self.given: Any = None  # what tells such calls by their operands
        self.round = 0  # how often calls have come after derivatives were taken of earlier ones
        self.made: list[Any] = []  # what the call gave, for when its step is taken again


class Kept(Keeping):
    """A call of Python whose results, `types`, are followed by its number if it has derivatives."""

    __slots__ = ("types", "moves", "inside", "kept", "numbers", "second", "round", "asked")

    def __init__(self, call: Callable[..., Any], label: str, types: Sequence[TensorType], moves: bool) -> None:
        super().__init__(call, label)
        self.types, self.moves = types, moves
        self.inside = False  # whether the program itself takes derivatives of it
        self.kept: dict[int, Call] = {}
        self.numbers = itertools.count(1)
        self.round, self.asked = 0, False
        self.second: _Again | None = None

    @abstractmethod
    def repeated(self, args: Sequence[Tensor]) -> Call:
        """The call made again, where nothing is left of it."""

    @property
    def is_heard(self) -> bool:
        return self.moves and (self.inside or bool(context.tapes))

    def keep(self, call: Call, arrays: Sequence[Any]) -> int:
        """Keep a call with these operands; its number."""
        number = next(self.numbers)
        self.round, self.asked = self.round + self.asked, False
        used = [k for k, x in list(self.kept.items()) if x.used]
        for k in [*used[: max(len(used) - _USED, 0)], *list(self.kept)[: max(len(self.kept) - _MOST, 0)]]:
            self.kept.pop(k, None)
        call.given, call.round = _bytes(arrays), self.round
        self.kept[number] = call
        return number

    def again(self) -> _Again:
        """What stands in its place where a step is taken a second time."""
        self.inside |= is_traced_function()
        if self.second is None:
            self.second = _Again(self)
        return self.second

    # --- derivatives --------------------------------------------------------------------------------------------------
    def vjp(self, g: Any, y: Any, xs: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self.moves:
            return (None,) * len(xs)
        gs = (g if type(g) is tuple else (g,))[: len(self.types)]
        wanted = [i for i, x in enumerate(xs) if x.dtype.is_inexact]

        def pull(call: Call, gs: Sequence[Any]) -> Sequence[Any]:
            call.used = self.asked = True
            pairs = [(y, g) for y, g in zip(call.results, gs, strict=True) if isinstance(y, Operand)]
            found = call.tape._gradient([y for y, _ in pairs], call.sources, [g for _, g in pairs], "zero", True)
            return list(found)

        back = [TensorType(xs[i].dtype, xs[i].type.shape) for i in wanted]
        made = iter(self._derived(pull, y, xs, gs, back, "gradient"))
        return tuple([next(made) if i in wanted else None for i in range(len(xs))])

    def jvp(self, ts: Any, y: Any, xs: tuple[Any, ...]) -> Any:
        outs = y if type(y) is tuple else (y,)
        moved = [i for i, t in enumerate(_inexact_only(ts, xs)) if t is not None]
        wanted = [i for i, t in enumerate(self.types) if t.dtype.is_inexact] if self.moves else []
        if not wanted:
            return (None,) * len(outs) if len(outs) > 1 else None

        def push(call: Call, given: Sequence[Any]) -> Sequence[Any]:
            call.used = self.asked = True
            ys = [call.results[i] for i in wanted]
            sources = [call.sources[i] for i in moved]
            with GradientTape(watch_accessed_variables=False) as tape:
                gs = [zeros_like(convert(y)) for y in ys]
                tape.watch(*gs)
                back = call.tape._gradient([convert(y) for y in ys], sources, gs, "zero", True)
            return list(tape.gradient(back, gs, output_gradients=list(given), unconnected_gradients="zero"))

        given = [t for t in _inexact_only(ts, xs) if t is not None]
        made = iter(self._derived(push, y, xs, given, [self.types[i] for i in wanted], "tangent"))
        every = [next(made) if i in wanted else None for i in range(len(outs))]
        return tuple(every) if len(every) > 1 else every[0]

    def _derived(
        self, derive: Derive, y: Any, xs: Sequence[Any], given: Sequence[Any], types: Sequence[TensorType], what: str
    ) -> tuple[Any, ...]:
        """A node that takes a derivative of the call with this number. It is a call that is kept, too."""
        self.inside |= is_traced_function()
        f = _Derived(self, derive, types, len(xs), f"{what} of {self.name}")
        made = host_call(y[len(self.types)], *xs, *given, f=f, types=(*types, TensorType(int64, ())))
        return made[: len(types)]  # type: ignore[no-any-return]


class _Derived(Kept):
    """A derivative of a call: its operands are the call's number and operands, and cotangents or tangents."""

    __slots__ = ("of", "derive", "count")

    def __init__(self, of: Kept, derive: Derive, types: Sequence[TensorType], count: int, label: str) -> None:
        super().__init__(self._call, label, types, True)
        self.of, self.derive, self.count = of, derive, count

    def _call(self, *arrays: Any) -> Sequence[Any]:
        tensors = [wrap(quietly(np.array, a)) for a in arrays]
        heard = self.is_heard
        with tracing(None):
            if not heard:
                return [*listed(self.derive(self._known(tensors), tensors[1 + self.count :]), self.types), np.int64(0)]
            call = self.repeated(tensors)
        number = self.keep(call, arrays)
        call.made = [*call.results, np.int64(number)]
        return call.made

    def _known(self, args: Sequence[Tensor]) -> Call:
        """The call that this is a derivative of."""
        known = self.of.kept.get(int(args[0]._a))
        return self.of.repeated(args[1 : 1 + self.count]) if known is None else known

    def repeated(self, args: Sequence[Tensor]) -> Call:
        """The derivative once more, of a call that a tape of its own goes on listening to."""
        call, given = self._known(args), [*args[1 + self.count :]]
        with call.tape.continued() as tape:
            tape.watch(*[t for t in given if t.dtype.is_inexact])
            ys = listed(self.derive(call, given), self.types)
        return Call(tape, [*call.sources, *[t for t in given if t.dtype.is_inexact]], ys)


class _Again(Keeping):
    """The same call where a step is taken a second time: it gives what it gave."""

    __slots__ = ("of", "_last")

    def __init__(self, of: Kept) -> None:
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


def _inexact_only(ts: Sequence[Any], xs: Sequence[Any]) -> list[Any]:
    return [t for t, x in zip(ts, xs, strict=True) if x.dtype.is_inexact]


def _bytes(arrays: Sequence[Any]) -> Any:
    return tuple([np.asarray(a).tobytes() for a in arrays])


def is_traced_function() -> bool:
    """Whether the trace at hand is part of that of a function, and not of a graph of values."""
    trace: Any = context.trace
    while trace is not None and trace.parent is not None and not trace.alone:
        trace = trace.parent
    return trace is not None and not trace.alone
