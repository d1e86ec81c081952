"""Gradient functions of the user's own as nodes: traced where a tape may ask for the gradient of their graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracejit.autodiff.transforms import Beyond, custom_vjp, lost, node_form, outermost, value_in
from tracejit.autograph import places, reads
from tracejit.autograph.attempts import Unheard, unheard
from tracejit.context import context, tracing
from tracejit.errors import ConversionError, TracejitError
from tracejit.ir.graph import Graph, Value
from tracejit.ir.types import TensorType, canonical
from tracejit.tensor import Operand, Tensor, Variable, wrap
from tracejit.tracing import Trace, run

Back = Callable[..., list[Any]]


def _emit(name: str, back: Back, ys: list[Tensor], sources: list[Operand]) -> tuple[Tensor, ...]:
    """The results of a call. Tapes in this very trace call the gradient function themselves when they are asked; for
    others the results are a node with its graph, into which goes nothing that the function does beyond computing."""
    outer: Any = context.trace
    root = outermost(outer)
    if not outer.asked:
        root.unasked = True
        return tuple([outer.read(t) if isinstance(t, Variable) else wrap(t._a) for t in ys])
    try:
        out = _node(name, back, ys, sources, root)
    except Exception as e:  # the user's own errors are for when the gradient is asked
        root.in_backward = why = _why(name, e)
        empty = Trace(outer).builder.finish(f"grad_{name}", [])
        wanted = (False,) * len(sources)
        out = custom_vjp(*ys, *sources, n=len(ys), grad=empty, wanted=wanted, beyond=Beyond(name, (), {}, None, why))
    return out if type(out) is tuple else (out,)


node_form.append(_emit)


def _why(name: str, e: Exception) -> ConversionError:
    if isinstance(e, Unheard):
        why = lost(name)
    else:
        said = e.message if isinstance(e, TracejitError) else f"{type(e).__name__}: {e}"
        why = lost(name, f"raises an error while it is traced ({said})")
    why.where = list(e.where) if isinstance(e, TracejitError) else []
    return why


def _node(name: str, back: Back, ys: list[Tensor], sources: list[Operand], root: Any) -> Any:
    """The gradient as a traced region; what the region captures becomes operands of the node."""
    outer: Any = context.trace
    inner = Trace(outer)
    inner.in_gradient = True
    gs = [inner.param(TensorType(t.dtype, tuple(t.shape))) for t in ys]
    with places.uncarried(unheard), reads.listed() as found:
        made = run(inner, back, gs)
    writes = inner.written()
    with tracing(inner):
        results = [inner.value(g) for g in (*made, *[inner.env[id(v)] for v in writes]) if g is not None]
    graph = inner.builder.finish(f"grad_{name}", results)
    outside: dict[Value, Any] = {}
    for owner, t in inner.captures.values():
        outside[t._a] = owner if isinstance(owner, Operand) else wrap(canonical(owner))
    for v, t in inner.reads.values():
        outside[t._a] = v
    captured = [outside[p] for p in graph.params[len(gs) :]]
    wanted = tuple([g is not None for g in made])
    held = {i: (x, value_in(outer, x)) for i, x in enumerate(captured) if isinstance(x, Variable)}
    attrs: dict[str, Any] = {}
    if writes or held or found.guards or found.inputs:
        attrs["beyond"] = b = Beyond(name, writes, held, found)
        root.gradients.append(b)
    if writes:
        root.in_backward = lost(name)
    elif _acts(graph):
        root.in_backward = lost(name, "prints, or calls Python")
    return custom_vjp(*ys, *sources, *captured, n=len(ys), grad=graph, wanted=wanted, **attrs)


def _acts(graph: Graph) -> bool:
    """Whether a graph does more than computing and checking when it runs."""
    parts = [(n, [x for _, x in n.attrs if type(x) is Graph]) for n in graph.nodes if not n.pure]
    return any(any(map(_acts, inner)) if inner else n.op.name != "check" for n, inner in parts)


def settle(trace: Any) -> None:
    """The function that is traced has ended: gradient functions for which this is too late are told."""
    for b in trace.gradients:
        if trace.in_backward is None and (why := b.unsettled(trace)):
            trace.in_backward = lost(b.name, why)
