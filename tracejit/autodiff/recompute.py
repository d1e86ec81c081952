"""recompute_grad: functions whose intermediate values are computed again for the gradient instead of being kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tracejit.autodiff.forward import ForwardAccumulator
from tracejit.autodiff.tape import GradientTape
from tracejit.autograph.calls import callee
from tracejit.context import context, tracing
from tracejit.errors import ArgumentError, locate
from tracejit.ir.graph import Graph
from tracejit.ir.op import Op
from tracejit.ir.types import TensorType
from tracejit.ops.controlgrad import quiet
from tracejit.ops.regions import Region, assign_all, union, written
from tracejit.tensor import Operand, Tensor, Variable, convert, wrap
from tracejit.tracing import replay, streams
from tracejit.tree import flatten, unflatten


# --- the nodes --------------------------------------------------------------------------------------------------------
def _one_or_all(xs: Sequence[Any]) -> Any:
    return xs[0] if len(xs) == 1 else tuple(xs)


def _infer_barrier(*types: TensorType, n: int) -> Any:
    return _one_or_all(types[:n])


def _run_barrier(*arrays: np.ndarray, n: int) -> Any:
    return _one_or_all(arrays[:n])


def _vjp_barrier(g: Any, y: Any, *xs: Tensor, n: int) -> tuple[Any, ...]:
    return (*(g if type(g) is tuple else (g,)), *[None] * (len(xs) - n))


def _jvp_barrier(ts: Any, y: Any, *xs: Tensor, n: int) -> Any:
    return _one_or_all(ts[:n])


barrier = Op(
    "barrier", "opaque", _infer_barrier, _run_barrier, vjp=_vjp_barrier, jvp=_jvp_barrier, arity=None, dtypes="biufc",
    doc="The first n operands, as values of their own which are there once the others are: what is computed from them "
    "is not taken for what was computed before.",
)  # fmt: skip


def _infer_recompute(*types: TensorType, body: Graph) -> Any:
    return _one_or_all([r.type.strong() for r in body.results])


def _run_recompute(*arrays: np.ndarray, body: Graph) -> Any:
    return _one_or_all(body.run(arrays))


def _vjp_recompute(g: Any, y: Any, *xs: Tensor, body: Graph) -> tuple[Any, ...]:
    """The body once more, from operands that wait for the cotangents, and its gradient."""
    gs = g if type(g) is tuple else (g,)
    targets = [i for i, r in enumerate(body.results) if r.dtype.is_inexact]
    wanted = [i for i, x in enumerate(xs) if x.dtype.is_inexact]
    given = [gs[i] for i in targets]
    again = barrier(*xs, *given, n=len(xs))
    again = again if type(again) is tuple else (again,)
    with GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(*[again[i] for i in wanted])
        ys = replay(quiet(body), again)
    found = tape.gradient([ys[i] for i in targets], [again[i] for i in wanted], output_gradients=given)
    grads: list[Any] = [None] * len(xs)
    for i, x in zip(wanted, found, strict=True):
        grads[i] = x
    return tuple(grads)


def _jvp_recompute(ts: Any, y: Any, *xs: Tensor, body: Graph) -> Any:
    moved = [i for i, t in enumerate(ts) if t is not None]
    with ForwardAccumulator([xs[i] for i in moved], [ts[i] for i in moved]) as acc:
        ys = replay(body, xs)
    return _one_or_all([acc.jvp(v) if v.dtype.is_inexact else None for v in ys])


recompute = Op(
    "recompute", "control", _infer_recompute, _run_recompute, vjp=_vjp_recompute, jvp=_jvp_recompute, arity=None,
    dtypes="biufc", doc="The results of the region `body`, which is computed again when a gradient needs its values.",
)  # fmt: skip


# --- the function -----------------------------------------------------------------------------------------------------
def recompute_grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function that computes what `f` computes and keeps only its arguments for the gradient.

    When the gradient is taken, `f` is computed again: that takes more time and less memory. It holds eagerly and in
    traced functions, for Variables that `f` reads, for calls within each other, and within loops. The second time `f`
    draws the same random numbers and finds Variables as they were the first time; its effects are not repeated in
    traced functions. Eagerly `f` is called a second time as Python.
    """
    if not callable(f):
        raise locate(ArgumentError(f"recompute_grad takes a function, not {type(f).__name__}"))

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        if context.trace is not None:
            return _staged(f, args, kwargs)
        if context.tapes:
            return _heard(f, args, kwargs)
        return f(*args, **kwargs)

    return call


def _staged(f: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The call as one node; what `f` assigns to Variables are results of it."""
    leaves, structure = flatten((args, kwargs))
    at = [i for i, x in enumerate(leaves) if type(x) is Tensor or isinstance(x, np.ndarray)]
    given = [convert(leaves[i]) for i in at]

    def body(*own: Tensor) -> Any:
        new = list(leaves)
        for i, t in zip(at, own, strict=True):
            new[i] = t
        a, k = unflatten(structure, new)
        return callee(f)(*a, **k)

    region = Region(body, [t.type for t in given], f"recompute_{getattr(f, '__name__', 'f')}")
    made = [i for i, y in enumerate(region.leaves) if isinstance(y, (Operand, np.ndarray))]
    ys = [region.call(convert, region.leaves[i]) for i in made]
    writes = written([region])
    ys += [region.call(region.trace.read, v) for v in writes]
    if not ys:
        return unflatten(region.structure, region.leaves)
    for t in ys:
        region.trace.value(t)
    operands, order, types = union([region], ())
    outs = recompute(*given, *operands, body=region.close(ys, order, types))
    outs = outs if type(outs) is tuple else (outs,)
    assign_all(writes, outs[len(made) :])
    results = list(region.leaves)
    for i, t in zip(made, outs, strict=False):
        results[i] = t
    return unflatten(region.structure, results)


class _Readers:
    """A listener that tells what was read from outside, and keeps the values that Variables had when first read."""

    def __init__(self) -> None:
        self.seen: dict[int, Operand] = {}
        self.variables: dict[int, tuple[Variable, np.ndarray]] = {}
        self.made: dict[int, Tensor] = {}

    def record(self, op: object, keys: tuple, values: tuple, attrs: dict, outs: tuple) -> None:
        self.made.update((id(y), y) for y in outs)
        for k, v in zip(keys, values, strict=True):
            if id(k) not in self.made and k.dtype.is_inexact:
                self.seen.setdefault(id(k), k)
            if isinstance(k, Variable):
                self.variables.setdefault(id(k), (k, v._a))

    def knows(self, x: Operand) -> bool:
        return id(x) not in self.made


class _Call:
    """One eager call as tapes remember it."""

    __slots__ = ("vjp", "name")
    pure, jvp = True, None

    def __init__(self, name: str, vjp: Callable[..., tuple]) -> None:
        self.name, self.vjp = name, vjp


def _heard(f: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The call while tapes listen eagerly: they remember the call, and not what happens in it."""
    readers = _Readers()
    before = [(v, v._a.copy()) for v in streams.alive()]
    with tracing(None, (readers,)):
        y = f(*args, **kwargs)
    mine = {id(x): x for x in flatten((args, kwargs))[0] if isinstance(x, Operand)}
    was = [*readers.variables.values(), *before]
    keys = tuple((mine | readers.seen).values())
    leaves, structure = flatten(y)
    made = [i for i, x in enumerate(leaves) if isinstance(x, Operand)]

    def vjp(g: Any, _: Any, *values: Tensor) -> tuple:
        return _again(f, args, kwargs, keys, was, g if type(g) is tuple else (g,))

    outs = tuple([wrap(convert(leaves[i])._a) for i in made])  # new tensors, so that tapes know them by this call only
    values = tuple([k if type(k) is Tensor else wrap(k._a) for k in keys])
    for tape in context.tapes if outs else ():
        tape.record(_Call(getattr(f, "__name__", "f"), vjp), keys, values, {}, outs)
    for i, t in zip(made, outs, strict=True):
        leaves[i] = t
    return unflatten(structure, leaves)


def _again(
    f: Callable[..., Any], args: Any, kwargs: Any, keys: Sequence[Operand], was: Sequence[tuple[Variable, np.ndarray]],
    gs: Sequence[Tensor],
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients for `keys`, by calling `f` a second time with Variables as they were."""
    wanted = [k for k in keys if k.dtype.is_inexact]
    with _as_before(was):
        with GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(*wanted)
            ys = [x for x in flatten(f(*args, **kwargs))[0] if isinstance(x, Operand)]
    live = [(y, g) for y, g in zip(ys, gs, strict=True) if y.dtype.is_inexact]
    found = tape.gradient([y for y, _ in live], wanted, output_gradients=[g for _, g in live])
    grads = iter(found)
    return tuple([next(grads) if k.dtype.is_inexact else None for k in keys])


@contextmanager
def _as_before(was: Sequence[tuple[Variable, np.ndarray]]) -> Iterator[None]:
    """Variables with values that they had once."""
    now = [(v, v._a) for v, _ in was]
    for v, a in was:
        v._a = a.copy()
    try:
        yield
    finally:
        for v, a in now:
            v._a = a
