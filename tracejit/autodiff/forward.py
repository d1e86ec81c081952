"""Forward mode: a listener at the door that carries tangents along with the values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from tracejit.autodiff.reverse import zeros_like
from tracejit.autodiff.tape import GradientTape
from tracejit.context import context, listen, unlisten
from tracejit.errors import ArgumentError, GradientError, ShapeError, locate
from tracejit.ir.op import OPS
from tracejit.ir.types import show_shape
from tracejit.operand import asks_which
from tracejit.tensor import Operand, Tensor, convert
from tracejit.tree import flatten, map_structure


class ForwardAccumulator:
    """Computes Jacobian-vector products while the function runs.

    Parameters
    ----------
    primals : tensor, Variable or nest of them
    tangents : the direction, a nest of the same structure and shapes

    Raises `GradientError` for a primal whose dtype has no derivative.
    """

    def __init__(self, primals: Any, tangents: Any) -> None:
        xs, ts = flatten(primals)[0], flatten(tangents)[0]
        if len(xs) != len(ts):
            raise locate(ArgumentError(f"{len(ts)} tangents for {len(xs)} primals"))
        self._tangents: dict[int, tuple[Operand, Tensor]] = {}
        for x, t in zip(xs, ts, strict=True):
            if not isinstance(x, Operand):
                raise locate(ArgumentError(f"primals are tensors and Variables, not {type(x).__name__}"))
            if x.dtype.kind not in "fc":
                raise locate(GradientError(f"{x.type} has no derivative: only floating dtypes have"))
            d = convert(t, x.dtype)
            if tuple(d.shape) != tuple(x.shape):
                raise locate(ShapeError(f"a tangent of {show_shape(d.shape)} for a primal of {show_shape(x.shape)}"))
            asks_which(x)
            self._tangents[id(x)] = (x, d)
        self._recording = False

    def __enter__(self) -> ForwardAccumulator:
        if self._recording:
            raise locate(GradientError("the accumulator is already recording"))
        self._recording = True
        listen(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._recording = False
        unlisten(self)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """The tangents' own computation is heard by the others only."""
        before = context.tapes
        context.tapes = tuple([t for t in before if t is not self])
        try:
            yield
        finally:
            context.tapes = before

    def record(self, op: Any, keys: tuple, values: tuple, attrs: dict[str, Any], outs: tuple) -> None:
        found = [self._tangents.get(id(k)) for k in keys]
        if not any(found) or op.vjp is None:
            return
        given = tuple([None if f is None else f[1] for f in found])
        with self._aside():
            jvp = getattr(op, "jvp", None)
            if jvp is None:
                made: Any = by_double_vjp(op, given, outs, values, attrs)
            else:
                made = jvp(given, outs[0] if len(outs) == 1 else outs, *values, **attrs)
            for y, t in zip(outs, made if type(made) is tuple else (made,), strict=True):
                if t is not None and y.dtype.kind in "fc":
                    self._tangents[id(y)] = (y, _of_shape(t, y))

    def knows(self, x: Operand) -> bool:
        return id(x) in self._tangents

    def jvp(self, primals: Any, unconnected_gradients: Any = "none") -> Any:
        """The tangent of each tensor of a nest: None, or zeros, where it does not depend on the primals."""
        zero = getattr(unconnected_gradients, "value", unconnected_gradients) == "zero"

        def one(y: Any) -> Tensor | None:
            found = self._tangents.get(id(y))
            return found[1] if found is not None else zeros_like(y) if zero else None

        return map_structure(one, primals)


def _of_shape(t: Tensor, y: Operand) -> Tensor:
    """A tangent with all of y's elements: that of one operand may lack axes along which only others vary."""
    have, want = tuple(t.shape), tuple(y.shape)
    if len(have) == len(want) and all(p is q or (type(p) is type(q) is int and p == q) for p, q in zip(have, want)):
        return t
    return OPS["broadcast_to"](t, shape=want)


def by_double_vjp(op: Any, tangents: Sequence[Any], outs: tuple, values: tuple, attrs: dict[str, Any]) -> tuple:
    """The tangents of an op without a jvp: its vjp is linear in the cotangent, and the transpose of that is the jvp."""
    with GradientTape(watch_accessed_variables=False) as tape:
        gs = tuple([zeros_like(y) for y in outs])
        tape.watch(*[g for g in gs if g.dtype.kind in "fc"])
        back = op.vjp(gs if len(gs) > 1 else gs[0], outs if len(outs) > 1 else outs[0], *values, **attrs)
        pairs = [(b, t) for b, t in zip(back, tangents, strict=True) if b is not None and t is not None]
        pairs = [(b() if type(b) is FunctionType else b, t) for b, t in pairs]
    found = tape.gradient([b for b, _ in pairs], list(gs), output_gradients=[t for _, t in pairs])
    return tuple(found)
