"""Where a value lies in memory: a base buffer, an offset and a stride for each axis, seen through movement ops."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from tracejit.ir.dim import Dim
from tracejit.ir.graph import Graph, Node, Value
from tracejit.ir.sizes import is_unit
from tracejit.passes.groups import is_view

Size = int | Dim


class Layout:
    """`base` is contiguous; element (i, j, …) of the value is `base[offset + i*strides[0] + j*strides[1] + …]`.

    `part` is 0 or 1 for the real or imaginary parts of a complex base, which is then counted in its parts.
    """

    __slots__ = ("base", "offset", "strides", "part")

    def __init__(self, base: Value, offset: Size, strides: tuple[Size, ...], part: int | None = None) -> None:
        self.base, self.offset, self.strides, self.part = base, offset, strides, part


def across(stride: Size, size: Size) -> Size:
    """The step from one run of `size` elements to the next. Empty axes count as one: strides of 0 mean repetition."""
    return stride if type(size) is int and size == 0 else stride * size


def contiguous(shape: tuple[Size, ...]) -> tuple[Size, ...]:
    """Row-major strides in elements."""
    out: list[Size] = []
    n: Size = 1
    for d in reversed(shape):
        out.append(n)
        n = across(n, d)
    return tuple(reversed(out))


def _empty(shape: tuple[Size, ...]) -> bool:
    return any(type(d) is int and d == 0 for d in shape)


def reshaped(shape: tuple[Size, ...], strides: tuple[Size, ...], new: tuple[Size, ...]) -> tuple[Size, ...] | None:
    """Strides under another shape, None if the elements are not evenly spaced there."""
    if _empty(shape):
        return contiguous(new)
    old = [(d, s) for d, s in zip(shape, strides, strict=True) if not is_unit(d)]
    want = [d for d in new if not is_unit(d)]
    if [d for d, _ in old] == want:
        it = iter(s for _, s in old)
        return tuple(0 if is_unit(d) else next(it) for d in new)
    runs: list[tuple[Size, Size]] = []  # maximal runs of axes that are contiguous with each other
    for d, s in old:
        if runs and runs[-1][1] == s * d:
            runs[-1] = (runs[-1][0] * d, s)
        else:
            runs.append((d, s))
    if len(runs) == 1:  # whatever the sizes are, the counts agree
        stride = runs[0][1]
        return tuple(0 if is_unit(d) else stride * s for d, s in zip(new, contiguous(new), strict=True))
    out: list[Size] = [0] * len(new)
    axis = len(new) - 1
    for size, stride in reversed(runs):
        n: Size = 1
        while axis >= 0 and n != size:
            if not is_unit(new[axis]):
                out[axis] = stride * n
                n = n * new[axis]
            axis -= 1
        if n != size:
            return None
    if any(not is_unit(d) for d in new[: axis + 1]):
        return None
    return tuple(out)


def even(shape: Sequence[Size], strides: Sequence[Size]) -> Size | None:
    """One stride for axes that are walked through in order; None if they are not evenly spaced."""
    axes = [(d, s) for d, s in zip(shape, strides, strict=True) if not is_unit(d)]
    if not all(a == across(b, d) for (_, a), (d, b) in pairwise(axes)):
        return None
    return axes[-1][1] if axes else 0


class Layouts:
    """Layouts of all values of a graph, worked out on demand. `told` are the found sizes that its parameters tell."""

    def __init__(self, told: set[str] | frozenset[str] = frozenset()) -> None:
        self.told = told
        self.known: dict[Value, Layout | None] = {}
        self.places: dict[Value, Layout] = {}  # of values that are computed within the memory of another one
        self.placed: set[tuple[Node, Value]] = set()  # operands that lie where their reader would put them

    def place(self, v: Value) -> Layout:
        """Where a value that is no view is written."""
        return self.places.get(v) or Layout(v, 0, contiguous(v.shape))

    def of(self, v: Value) -> Layout | None:
        """The layout, None if a reshape in the chain would need a copy."""
        if v not in self.known:
            self.known[v] = self._through(v)
        return self.known[v]

    def _through(self, v: Value) -> Layout | None:
        n = v.node
        if n is None or not is_view(n):
            return Layout(v, 0, contiguous(v.shape))
        x = n.inputs[0]
        below = self.of(x)
        if below is None:
            return None
        s, offset = below.strides, below.offset
        name = n.op.name
        if name == "transpose":
            s = tuple(s[p] for p in n.attr("perm"))
        elif name == "broadcast_to":
            lead = len(v.shape) - len(x.shape)
            s = (0,) * lead + tuple(0 if is_unit(d) else t for d, t in zip(x.shape, s, strict=True))
        elif name == "slice":
            for b, t in zip(n.attr("start"), s, strict=True):
                offset = offset + b * t
            s = tuple(t * k for t, k in zip(s, n.attr("step"), strict=True))
        elif name == "reshape":
            r = reshaped(x.shape, s, v.shape)
            if r is None:
                return None
            s = tuple([t * 2 for t in r]) if below.part is not None and _empty(x.shape) else r
        elif name in ("real", "imag"):
            part = int(name == "imag")
            return Layout(below.base, offset * 2 + part, tuple([t * 2 for t in s]), part)
        return Layout(below.base, offset, s, below.part)

    def plain(self, v: Value) -> bool:
        """Whether the value is its base buffer as it stands, under another shape at most."""
        lay = self.of(v)
        if lay is None or lay.part is not None or lay.offset != 0:
            return False
        return dense(v.shape, lay.strides) and _whole(v, lay.base)


def dense(shape: tuple[Size, ...], strides: tuple[Size, ...]) -> bool:
    """Whether the strides are row-major for the shape (those of unit axes do not matter)."""
    return all(is_unit(d) or s == t for d, s, t in zip(shape, strides, contiguous(shape), strict=True))


def _whole(v: Value, base: Value) -> bool:
    a: Size = 1
    for d in v.shape:
        a = a * d
    b: Size = 1
    for d in base.shape:
        b = b * d
    return a == b


def needs_copy(graph: Graph, layouts: Layouts | None = None) -> list[Node]:
    """Reshapes whose input is not evenly spaced: their input has to be copied first, as `layouts` are told."""
    layouts = layouts or Layouts()
    out = []
    for n in graph.nodes:
        if is_view(n) and layouts.of(n.out) is None:
            out.append(n)
            layouts.known[n.out] = Layout(n.out, 0, contiguous(n.out.shape))
    return out
