"""Functions with a gradient of the user's own."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.context import context, listen, tracing, unlisten
from tracejit.errors import ArgumentError, ConversionError, GradientError, locate
from tracejit.ir.graph import Graph, Value
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import TensorType, canonical
from tracejit.tensor import Operand, Tensor, Variable, convert, wrap
from tracejit.tracing import Trace, replay, run
from tracejit.tree import flatten, unflatten


class Changes:
    """The Variables that a gradient function assigns: their new values are the last results of its graph. `reads` are
    those that it reads, by the operands they are: it finds what they hold when the gradient is taken."""

    __slots__ = ("name", "writes", "reads")

    def __init__(self, name: str, writes: Sequence[Variable], reads: dict[int, Variable]) -> None:
        self.name, self.writes, self.reads = name, tuple(writes), reads

    def __repr__(self) -> str:
        return "[" + ", ".join([v.name for v in self.writes]) + "]"

    def now(self, captured: Sequence[Any]) -> list[Any]:
        """What the gradient function takes from outside, as it is now."""
        root: Any = context.trace
        while root is not None and root.parent is not None:
            root = root.parent
        if root is not None and root.alone:
            raise locate(lost(self.name))
        return [OPS["identity"](self.reads[i]) if i in self.reads else x for i, x in enumerate(captured)]


def lost(name: str) -> ConversionError:
    """The error for what a gradient function changes where only its values would be known."""
    text = f"the gradient function of {name} assigns Variables or changes Python objects, and runs in compiled code"
    return ConversionError(
        f"{text} that the traced function is no part of",
        remedy="take the gradient in the traced function, outside of loops, or return what is to be kept",
    )


# --- the node that carries a gradient through a graph -----------------------------------------------------------------
def _infer(*types: TensorType, n: int, grad: Graph, wanted: tuple[bool, ...], changes: Any = None) -> Any:
    return types[0] if n == 1 else types[:n]


def _through(*arrays: np.ndarray, n: int, grad: Graph, wanted: tuple[bool, ...], changes: Any = None) -> Any:
    return arrays[0] if n == 1 else arrays[:n]


def _vjp(
    g: Any, y: Any, *inputs: Tensor, n: int, grad: Graph, wanted: tuple[bool, ...], changes: Changes | None = None
) -> tuple:  # fmt: skip
    cotangents = (g,) if n == 1 else g
    captured: Sequence[Any] = inputs[n + len(wanted) :]
    made = iter(replay(grad, [*cotangents, *(captured if changes is None else changes.now(captured))]))
    given = tuple([next(made) if w else None for w in wanted])
    if changes is not None:
        for v in changes.writes:
            v.assign(next(made))
    return (None,) * n + given + (None,) * (len(inputs) - n - len(wanted))


custom_vjp = Op(
    "custom_vjp", "opaque", _infer, _through, vjp=_vjp, arity=None, dtypes="biufc",
    doc="The first n operands; their gradient for the next ones is the graph `grad` of the cotangents and the rest.",
)  # fmt: skip
# Operands: n results, then the arguments of the function (`wanted` says which have a cotangent), then what the gradient
# captured. Once no gradient will be taken any more, the node is its first n operands.


class _Call:
    """One eager call as tapes remember it: an op whose vjp is the user's function."""

    __slots__ = ("vjp", "name")
    pure, jvp = True, None

    def __init__(self, name: str, back: Callable[..., list[Any]]) -> None:
        self.name = name

        def vjp(g: Any, y: Any, *values: Tensor) -> tuple:
            return tuple(back(*(g if type(g) is tuple else (g,))))

        self.vjp = vjp


class _Readers:
    """A listener that collects the trainable Variables that are read."""

    def __init__(self) -> None:
        self.seen: dict[int, Variable] = {}

    def record(self, op: object, keys: tuple, values: tuple, attrs: dict, outs: tuple) -> None:
        for k in keys:
            if isinstance(k, Variable) and k.trainable:
                self.seen[id(k)] = k

    def knows(self, x: Operand) -> bool:
        return False  # it collects Variables


traced_form: list[Callable[[Any], Any]] = [lambda f: f]  # what runs in the place of a function that is traced


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function a gradient of its own.

    `f(*args)` returns its result and a function `grad(*upstream)` that returns one gradient for each tensor among the
    arguments, in their order. If `f` reads Variables, `grad` is called with `variables=[…]` too and returns a pair:
    the gradients of the arguments and those of the Variables. What `grad` computes is differentiated for gradients of
    higher order. It holds eagerly, in traced functions, and for a traced function under a tape.

    Raises `GradientError` if `grad` returns another number of gradients.
    """

    if not callable(f):
        raise locate(ArgumentError(f"custom_gradient takes a function, not {type(f).__name__}"))

    @functools.wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not context.tapes and context.trace is None:
            return _result(f, f(*args, **kwargs))[0]
        readers = _Readers()
        listen(readers)
        try:
            run = f if context.trace is None else traced_form[-1](f)
            y, grad = _result(f, run(*args, **kwargs))
        finally:
            unlisten(readers)
        leaves = flatten(args)[0]
        sources = [x for x in leaves if isinstance(x, Operand)]
        mine = {id(x) for x in sources}
        variables = [v for k, v in readers.seen.items() if k not in mine]
        keywords = any(isinstance(x, Operand) for x in flatten(kwargs)[0])
        back = _backward(f.__name__, grad, leaves, variables, keywords)
        flat, structure = flatten(y)
        ys = [t if type(t) is Tensor else convert(t) for t in flat]
        if context.trace is not None:
            here = context.tapes  # which call `grad` itself, when they are asked
            with tracing(context.trace):
                outs = _emit(f.__name__, back, ys, [*sources, *variables])
        else:
            here = context.tapes
            outs = tuple([wrap(t._a) for t in ys])  # new tensors, so that tapes know them by this call only
        keys = (*sources, *variables)
        values = tuple([k if type(k) is Tensor else _value(k) for k in keys]) if here else ()
        for tape in here:
            tape.record(_Call(f.__name__, back), keys, values, {}, outs)
        return unflatten(structure, outs)

    return call


def _value(v: Any) -> Tensor:
    """What a Variable holds."""
    return wrap(v._a) if context.trace is None else context.trace.read(v)  # type: ignore[no-any-return]


def _result(f: Callable[..., Any], out: Any) -> tuple[Any, Callable[..., Any]]:
    if not (isinstance(out, tuple) and len(out) == 2 and callable(out[1])):
        raise locate(ArgumentError(f"{f.__name__} must return its result and a function for the gradient"))
    return out


def _may_be_equal(a: tuple, b: tuple) -> bool:
    return len(a) == len(b) and all(m == n for m, n in zip(a, b, strict=True) if type(m) is type(n) is int)


def _takes_variables(name: str, grad: Callable[..., Any], variables: Sequence[Variable]) -> None:
    try:
        names = inspect.signature(grad).parameters.values()
    except (TypeError, ValueError):  # compiled code does not tell
        return
    if not any(p.name == "variables" or p.kind is p.VAR_KEYWORD for p in names):
        read = ", ".join(repr(v.name) for v in variables)
        said = f"{name} reads {read}, but its gradient function does not take `variables`"
        remedy = "write def grad(*upstream, variables=None) and return a pair: the arguments' gradients and theirs"
        raise locate(GradientError(said, remedy=remedy))


def _backward(
    name: str, grad: Callable[..., Any], leaves: Sequence[Any], variables: Sequence[Variable], keywords: bool
) -> Callable[..., list[Any]]:
    """Cotangents of the results to those of the tensors among the arguments and of the Variables."""

    def back(*gs: Any) -> list[Any]:
        if variables:
            _takes_variables(name, grad, variables)
            made, own = grad(*gs, variables=list(variables))
        else:
            made, own = grad(*gs), []
        found = list(made) if isinstance(made, (list, tuple)) else [made]
        if len(found) == len(leaves):
            found = [g for g, x in zip(found, leaves, strict=True) if isinstance(x, Operand)]
        count = sum(isinstance(x, Operand) for x in leaves)
        if len(found) != count or len(own) != len(variables):
            raise locate(
                GradientError(
                    f"the gradient of {name} returned {len(found)} gradients for {count} tensors"
                    + (f" and {len(own)} for {len(variables)} Variables" if variables else "")
                    + ("; arguments given by keyword have none" if keywords else "")
                )
            )
        out = [None if g is None else convert(g) for g in [*found, *own]]
        for g, x in zip(out, [*(x for x in leaves if isinstance(x, Operand)), *variables], strict=True):
            if g is not None and not _may_be_equal(tuple(g.shape), tuple(x.shape)):
                raise locate(GradientError(f"the gradient of {name} returned {g.type} for a tensor {x.type}"))
        return out

    return back


def _emit(name: str, back: Callable[..., list[Any]], ys: list[Tensor], sources: list[Operand]) -> tuple[Tensor, ...]:
    """A node with the gradient as a traced region; what the region captures becomes operands of the node."""
    outer: Any = context.trace
    inner = Trace(outer)
    gs = [inner.param(TensorType(t.dtype, tuple(t.shape))) for t in ys]
    made = run(inner, back, gs)
    writes = inner.written()
    with tracing(inner):
        results = [inner.value(g) for g in (*made, *[inner.env[id(v)] for v in writes]) if g is not None]
    if writes or inner.defers:
        outer.say_backward_changes(name)
    graph = inner.builder.finish(f"grad_{name}", results)
    outside: dict[Value, Any] = {}
    for owner, t in inner.captures.values():
        outside[t._a] = owner if isinstance(owner, Operand) else wrap(canonical(owner))
    for v, t in inner.reads.values():
        outside[t._a] = v
    captured = [outside[p] for p in graph.params[len(gs) :]]
    wanted = tuple([g is not None for g in made])
    changes: dict[str, Any] = {}
    if writes:
        reads = {i: x for i, x in enumerate(captured) if isinstance(x, Variable)}
        changes["changes"] = Changes(name, writes, reads)
    out = custom_vjp(*ys, *sources, *captured, n=len(ys), grad=graph, wanted=wanted, **changes)
    return out if type(out) is tuple else (out,)
