"""Jacobians of tapes: the pullbacks of all elements of a target, computed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tracejit.autodiff.batching import vectorized_map
from tracejit.autodiff.tape import GradientTape, as_mode
from tracejit.context import context, listen, unlisten
from tracejit.errors import ArgumentError, ControlFlowError, GradientError, ShapeError, TracedValueError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ir.sizes import known_equal, product
from tracejit.ir.types import DType, show_shape
from tracejit.ops.array import moveaxis, stack
from tracejit.ops.creation import eye
from tracejit.tensor import Operand, Tensor
from tracejit.tree import flatten, unflatten

Size = int | Dim


# --- what is linear, for all vectors of a basis ---------------------------------------------------------------------
def for_basis(f: Callable[[Tensor], list[Tensor]], n: Size, dtype: DType, at_once: bool) -> list[Tensor]:
    """`f` of each of n unit vectors, stacked."""
    basis = eye(n, dtype=dtype)
    if at_once and n != 1:
        try:
            return list(vectorized_map(f, basis, warn=False))
        except (TracedValueError, ControlFlowError):  # code of the user's that needs values
            pass
    return [stack(list(column)) for column in zip(*[f(basis[i]) for i in range(int(n))], strict=True)]


@contextmanager
def _repeatable(tape: GradientTape) -> Iterator[None]:
    """The tape may be asked several times, and hears nothing of it unless it is persistent."""
    kept, before = tape.persistent, context.tapes
    tape._unused()
    tape.persistent = True
    if not kept:
        context.tapes = tuple([t for t in before if t is not tape])
    try:
        yield
    finally:
        tape.persistent, context.tapes = kept, before
    if not kept:
        if tape in before:
            unlisten(tape)
            tape._recording = False
        tape.reset()
        tape._used = True


def _reshaped(tape: GradientTape, t: Operand, shape: tuple[Size, ...]) -> Tensor:
    """The target in another shape, as an operation that the tape hears."""
    before = context.tapes
    if tape not in before:
        listen(tape)
    try:
        return OPS["reshape"](t, shape=shape)
    finally:
        if tape not in before:
            unlisten(tape)


class _Pull:
    """The pullback of a target: cotangents of its elements to those of the sources that it depends on."""

    def __init__(self, tape: GradientTape, target: Tensor, sources: list[Operand], mode: str) -> None:
        self.tape, self.target, self.sources = tape, target, sources
        self.linked = [x is not None for x in self._call(None, mode)]

    def _call(self, seed: Tensor | None, mode: str = "none") -> list[Any]:
        return self.tape._gradient(self.target, self.sources, seed, mode, dense=True)

    def __call__(self, seed: Tensor) -> list[Tensor]:
        return [x for x in self._call(seed) if x is not None]

    def spread(self, made: Sequence[Tensor], shapes: list[tuple[Size, ...]], mode: str) -> list[Any]:
        """One result for each source: None or zeros for those that the target does not depend on."""
        found = iter(made)
        out: list[Any] = []
        for hit, s, shape in zip(self.linked, self.sources, shapes, strict=True):
            if hit:
                out.append(OPS["reshape"](next(found), shape=shape))
            else:
                out.append(_zeros(shape, s.dtype) if mode == "zero" else None)
        return out


def _zeros(shape: tuple[Size, ...], dtype: DType) -> Tensor:
    return OPS["broadcast_to"](OPS["cast"](0.0, dtype=dtype), shape=shape)


def _tape_jacobian(
    self: GradientTape,
    target: Any,
    sources: Any,
    unconnected_gradients: Any = "none",
    parallel_iterations: Any = None,
    experimental_use_pfor: bool = True,
) -> Any:
    """d target / d source, of shape target.shape + source.shape, for each source.

    The rows are computed at once, as `vectorized_map` does it; with `experimental_use_pfor=False` one by one.
    """
    mode = as_mode(unconnected_gradients)
    if not isinstance(target, Operand) or target.dtype.kind not in "fc":
        raise locate(GradientError(f"the target of a Jacobian is a floating tensor, not {_shown(target)}"))
    flat, structure = flatten(sources)
    n = product(tuple(target.shape))
    y = _reshaped(self, target, (n,))
    with _repeatable(self):
        pull = _Pull(self, y, flat, "none" if mode == "zero" else mode)
        full = [(*target.shape, *s.shape) for s in flat]
        if not any(pull.linked) or (type(n) is int and n == 0):
            made = [_zeros(f, s.dtype) for f, s, hit in zip(full, flat, pull.linked, strict=True) if hit]
        else:
            made = for_basis(pull, n, target.dtype, experimental_use_pfor)
        return unflatten(structure, pull.spread(made, full, mode))


def _tape_batch_jacobian(
    self: GradientTape,
    target: Any,
    source: Any,
    unconnected_gradients: Any = "none",
    parallel_iterations: Any = None,
    experimental_use_pfor: bool = True,
) -> Any:
    """The Jacobian of each row of `target` with respect to the same row of `source`.

    Row i of the target must depend on row i of the source only. The shape is (rows, *target.shape[1:],
    *source.shape[1:]).
    """
    mode = as_mode(unconnected_gradients)
    for t, what in ((target, "target"), (source, "source")):
        if not isinstance(t, Operand) or not t.ndim or t.dtype.kind not in "fc":
            raise locate(ArgumentError(f"the {what} of batch_jacobian is a floating tensor of rows, not {_shown(t)}"))
    rows, inner = target.shape[0], tuple(target.shape[1:])
    if not known_equal(rows, source.shape[0]):
        shapes = f"{show_shape(target.shape)} and {show_shape(source.shape)}"
        raise locate(ShapeError(f"target and source differ in their number of rows: {shapes}"))
    m = product(inner)
    y = _reshaped(self, target, (rows, m))
    full = (rows, *inner, *source.shape[1:])
    with _repeatable(self):
        pull = _Pull(self, y, [source], "none" if mode == "zero" else mode)
        if not any(pull.linked) or (type(m) is int and m == 0):
            made = [_zeros(full, source.dtype)] * any(pull.linked)
        else:
            made = [moveaxis(x, 0, 1) for x in for_basis(pull, m, target.dtype, experimental_use_pfor)]
        return pull.spread(made, [full], mode)[0]


def _shown(x: Any) -> str:
    return str(x.type) if isinstance(x, Operand) else type(x).__name__


for _name, _method in (("jacobian", _tape_jacobian), ("batch_jacobian", _tape_batch_jacobian)):
    _method.__name__, _method.__qualname__ = _name, f"GradientTape.{_name}"
    setattr(GradientTape, _name, _method)
