"""Whether the operations of a part of a program go with the sizes that were found: kernels take for granted that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracejit.errors import DTypeError, ShapeError
from tracejit.ir.dim import Dim
from tracejit.ir.found import open_in, symbols_of
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.sizes import is_unit, size_at
from tracejit.ir.text import walk
from tracejit.ir.types import TensorType
from tracejit.tracing import at_sizes

_FAMILIES = {"elementwise", "reduce", "shape", "contract", "index"}
_BROADCAST = {"broadcast_to": 0, "matmul": 2}  # and how many axes at the end are not broadcast


def misfit(graph: Graph, sizes: Mapping[str, int]) -> Node | Dim | None:
    """What of a graph, or of its regions, reaches beyond an array or has a negative size for these sizes."""
    known = dict(sizes)
    for g in walk(graph, "sized"):  # which is asked when its own sizes are found
        for n in g.nodes:
            dims = [d for v in (*n.inputs, *n.outs) for d in v.shape if isinstance(d, Dim)]
            if not (dims or open_in(n) or symbols_of(n)) or not all(d.symbols <= known.keys() for d in dims):
                continue
            negative = next((d for d in dims if size_at(d, known) < 0), None)
            if negative is not None:
                return negative
            if n.op.family in _FAMILIES and not _fits(n, known):
                return n
    return None


def _fits(n: Node, known: dict[str, int]) -> bool:
    try:
        attrs = at_sizes(n.attrs, known)
        made = n.op.infer(*[_at(v, known) for v in n.inputs], **attrs)
    except (ShapeError, DTypeError):
        return False
    except KeyError:  # an attribute has a size that is found later
        return True
    for t, v in zip(made if type(made) is tuple else (made,), n.outs, strict=True):
        if tuple(t.shape) != _shape(v, known):
            return False
    if n.op.family == "elementwise" or n.op.name in _BROADCAST:
        return all(_spreads(v, n.out, known, _BROADCAST.get(n.op.name, 0)) for v in n.inputs)
    if n.op.name == "update":
        return _inside(_shape(n.inputs[1], known), _shape(n.inputs[0], known), attrs)
    return n.op.name != "place" or _inside(_shape(n.inputs[0], known), _shape(n.out, known), attrs)


def _shape(v: Value, known: Mapping[str, int]) -> tuple[int, ...]:
    return tuple([size_at(d, known) for d in v.shape])


def _at(v: Value, known: Mapping[str, int]) -> TensorType:
    return TensorType(v.dtype, _shape(v, known), v.type.weak)


def _spreads(v: Value, out: Value, known: Mapping[str, int], own: int) -> bool:
    """Whether a value has the sizes of the result, or the 1 that the kernel knows of."""
    a, b = (tuple(x.shape)[: len(x.shape) - own] for x in (v, out))
    pairs = zip(reversed(a), reversed(b), strict=False)
    return all(is_unit(d) or size_at(d, known) == size_at(e, known) for d, e in pairs)


def _inside(part: tuple[int, ...], whole: tuple[int, ...], attrs: Mapping[str, Any]) -> bool:
    """Whether a block at `start` in steps of `step` is within an array, if it has elements."""
    if 0 in part:
        return True
    ends = [(b, b + (n - 1) * s) for b, n, s in zip(attrs["start"], part, attrs["step"], strict=True)]
    return all(0 <= min(e) and max(e) < d for e, d in zip(ends, whole, strict=True))
