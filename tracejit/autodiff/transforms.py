"""Functions with a gradient of the user's own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tracejit import wrappers
from tracejit.context import context, listen, tracing, unlisten
from tracejit.errors import ArgumentError, ConversionError, GradientError, locate
from tracejit.ir.graph import Graph
from tracejit.ir.op import OPS, Op
from tracejit.ir.types import TensorType
from tracejit.tensor import Operand, Tensor, Variable, convert, wrap
from tracejit.tracing import replay, unborn
from tracejit.tree import flatten, unflatten


class Beyond:
    """What a gradient function does beyond computing from its operands, which is found out when the gradient is taken.

    `writes` are the Variables that it assigns: their new values are the last results of its graph. `reads` are those
    that it reads, by the operands that they are, each with what stood for its value in the function that was traced.
    `found` are the places of Python's that it reads. `lost` says why there is no graph of it.
    """

    __slots__ = ("name", "writes", "reads", "found", "lost")

    def __init__(
        self, name: str, writes: Sequence[Variable], reads: dict[int, tuple[Variable, Any]], found: Any,
        lost: ConversionError | None = None,
    ) -> None:  # fmt: skip
        self.name, self.writes, self.reads, self.found, self.lost = name, tuple(writes), reads, found, lost

    def __repr__(self) -> str:
        return "[" + ", ".join([v.name for v in self.writes]) + "]"

    def now(self, captured: Sequence[Any]) -> list[Any]:
        """What the gradient function takes from outside, as it is now."""
        if self.lost is not None:
            raise locate(self.lost)
        if changed := self.change():
            raise locate(lost(self.name, changed))
        trace: Any = outermost(context.trace)
        if trace is None or not trace.alone:
            return [OPS["identity"](self.reads[i][0]) if i in self.reads else x for i, x in enumerate(captured)]
        if self.writes:
            raise locate(lost(self.name))
        traced = not outermost(trace, True).alone  # else tapes outside ask, who know what Variables hold now
        for v, was in self.reads.values():
            if _again.by_operations or (traced and value_in(trace, v) is not was):
                raise locate(lost(self.name, f"reads {v.name!r}, which has been assigned since"))
        return list(captured)

    def change(self) -> str:
        """What it reads of Python's that is not as it was, in words."""
        label = "" if self.found is None else self.found.change()
        return label and self.has_changed(label)

    def has_changed(self, label: str) -> str:
        return f"reads {label}, which has changed since"

    def inputs(self) -> list[Any]:
        """The places that it reads whose numbers are others in each call."""
        return [] if self.found is None else list(self.found.inputs.values())

    def unsettled(self, trace: Any) -> str:
        """Why tapes outside the function that is traced would find something else than it does, "" if they would not:
        what it reads is not as it is when the function ends."""
        if self.found is not None and (self.found.own or self.found.change()):
            return "reads what the function changes"
        other = [v for v, was in self.reads.values() if was is None or value_in(trace, v) is not was]
        return f"reads {other[0].name!r}, which the function assigns" if other else ""


class _Again(threading.local):
    by_operations = False  # whether a call's operations are gone through again, to find what Variables hold now


_again = _Again()


@contextmanager
def by_operations() -> Iterator[None]:
    """A block in which gradient functions read Variables anew; those in branches and loops cannot."""
    before, _again.by_operations = _again.by_operations, True
    try:
        yield
    finally:
        _again.by_operations = before


def outermost(trace: Any, through: bool = False) -> Any:
    """The trace that has none around it; `through` those that make graphs of values, the one that they are made in."""
    while trace is not None and (around := trace.parent or (trace.around if through else None)) is not None:
        trace = around
    return trace


def value_in(trace: Any, v: Variable) -> Any:
    """What stands for a Variable's value in the function that is traced; None where a part of it has another."""
    while (around := trace.parent or trace.around) is not None:
        t = trace.env.get(id(v))
        if t is not None and (id(v) not in trace.reads or trace.reads[id(v)][1] is not t):
            return None
        trace = around
    if id(v) not in trace.env and v not in unborn:
        trace.read(v)
    return trace.env.get(id(v))


def beyond(graph: Graph) -> list[Beyond]:
    """What the gradient functions in a graph do beyond it."""
    found: list[Beyond] = []
    for n in graph.nodes:
        for _, x in n.attrs:
            if isinstance(x, Beyond):
                found.append(x)
            elif type(x) is Graph:
                found += beyond(x)
    return found


def lost(name: str, what: str = "assigns Variables or changes Python objects") -> ConversionError:
    """The error for what a gradient function changes, or reads, where only its values would be known."""
    text = f"the gradient function of {name} {what}, and runs in compiled code"
    return ConversionError(
        f"{text} that the traced function is no part of",
        remedy="take the gradient in the traced function, outside of loops, or return what is to be kept",
    )


# --- the node that carries a gradient through a graph -----------------------------------------------------------------
def _infer(*types: TensorType, n: int, grad: Graph, wanted: tuple[bool, ...], beyond: Any = None) -> Any:
    return types[0] if n == 1 else types[:n]


def _through(*arrays: np.ndarray, n: int, grad: Graph, wanted: tuple[bool, ...], beyond: Any = None) -> Any:
    return arrays[0] if n == 1 else arrays[:n]


def _vjp(
    g: Any, y: Any, *inputs: Tensor, n: int, grad: Graph, wanted: tuple[bool, ...], beyond: Beyond | None = None
) -> tuple:  # fmt: skip
    cotangents = (g,) if n == 1 else g
    captured: Sequence[Any] = inputs[n + len(wanted) :]
    captured = captured if beyond is None else beyond.now(captured)
    if not grad.pure and captured and context.trace is not None:  # checks are for when there are cotangents
        waiting = OPS["barrier"](*captured, *cotangents, n=len(captured))
        captured = waiting if type(waiting) is tuple else (waiting,)
    made = iter(replay(grad, [*cotangents, *captured]))
    given = tuple([next(made) if w else None for w in wanted])
    for v in () if beyond is None else beyond.writes:
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
node_form: list[Callable[..., tuple[Tensor, ...]]] = []  # how a call becomes a node of a graph


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function a gradient of its own.

    `f(*args)` returns its result and a function `grad(*upstream)` that returns one gradient for each tensor among the
    arguments, in their order. If `f` reads Variables, `grad` is called with `variables=[…]` too and returns a pair:
    the gradients of the arguments and those of the Variables. What `grad` computes is differentiated for gradients of
    higher order. It holds eagerly, in traced functions, and for a traced function under a tape. `grad` runs when the
    gradient is taken; a traced function whose gradient functions do more than computing runs as plain Python under a
    tape, with one warning.

    Raises `GradientError` if `grad` returns another number of gradients, or if what it reads of Python's has changed
    since the call of a traced function.
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
                outs = node_form[-1](f.__name__, back, ys, [*sources, *variables])
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
        names = wrappers.signature(grad).parameters.values()
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
