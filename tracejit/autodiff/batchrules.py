"""How single operations go over many rows at once: a table of rules, each for an op or a family of ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracejit.ir.dim import Dim
from tracejit.ir.graph import Attrs, Const
from tracejit.ir.op import OPS, Op
from tracejit.ir.sizes import is_unit, product
from tracejit.ir.types import int64
from tracejit.ops.array import moveaxis
from tracejit.ops.index import COMBINED
from tracejit.ops.shape import resolve_shape
from tracejit.tensor import Operand, Tensor

Size = int | Dim


class Batch:
    """The rows at hand: their number, which of them count, and what is known of sizes.

    `n` is None for a single row without a batch axis. `mask` is a bool for each row or None: of the others nothing is
    used, so that no check may fail for them and no position of theirs may be read. `sizes` are the numbers of steps
    of loops that have run, `ran` the masks that these ran under; `counts` the numbers of steps of each row, where they
    differ, and the number in all.
    """

    __slots__ = ("n", "mask", "sizes", "counts", "fallback", "ran", "_turned")

    def __init__(
        self, n: Size | None, mask: Tensor | None = None, sizes: dict[str, Size] | None = None,
        counts: dict[str, tuple[Tensor, Tensor]] | None = None, fallback: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self.n, self.mask = n, mask
        self.sizes: dict[str, Size] = {} if sizes is None else sizes
        self.counts: dict[str, tuple[Tensor, Tensor]] = {} if counts is None else counts
        self.fallback = fallback
        self.ran: dict[str, Tensor | None] = {}
        self._turned: dict[int, tuple[Tensor, Tensor]] = {}

    def within(self, mask: Tensor | None) -> Batch:
        """The same rows, of which only these count; the mask takes the place of the one before."""
        new = Batch(self.n, mask, self.sizes, self.counts, self.fallback)
        new.ran, new._turned = self.ran, self._turned
        return new

    def inside(self) -> Batch:
        """The same in a region, which may be entered again: what its loops tell holds for this time only."""
        new = Batch(self.n, self.mask, dict(self.sizes), dict(self.counts), self.fallback)
        new.ran, new._turned = dict(self.ran), self._turned
        return new

    def closed(self, mask: Tensor | None) -> Batch:
        """The same in a graph that knows of no mask but this, which stands for the one at hand."""
        new = self.inside()
        new.mask = mask
        new.ran = {s: m if m is None else mask for s, m in self.ran.items() if m is None or m is self.mask}
        return new

    def narrowed(self, mask: Tensor) -> Batch:
        return self.within(mask if self.mask is None else OPS["logical_and"](self.mask, mask))

    def attrs(self, attrs: Attrs) -> dict[str, Any]:
        """Attributes with the numbers of steps that are known by now."""
        if not self.sizes:
            return dict(attrs)
        return {k: self._size(v) for k, v in attrs}

    def _size(self, x: Any) -> Any:
        if type(x) is tuple:
            return tuple([self._size(y) for y in x])
        if type(x) is Const and x.array is None and x.shape:
            return Const(None, x.splat, self._size(x.shape), x.dtype, None if x.owner is None else x.owner())
        if not isinstance(x, Dim) or not x.symbols & self.sizes.keys():
            return x
        known: dict[str, Any] = {s: self.sizes.get(s, Dim.symbol(s, 2)) for s in x.symbols}
        return x.evaluate(known)

    def spread(self, x: Operand, has: bool = False) -> Any:
        """The operand with a row for each; as it is if it `has` them."""
        return x if has else OPS["broadcast_to"](x, shape=(self.n, *x.shape))

    def rows_first(self, x: Tensor) -> Tensor:
        """What a loop stacked, step by step, with the rows' axis in front."""
        y = moveaxis(x, 1, 0)
        self._turned[id(y)] = (y, x)
        return y

    def steps_first(self, x: Tensor) -> Tensor:
        """What a loop goes through, the steps' axis in front of the rows'."""
        found = self._turned.get(id(x))
        return moveaxis(x, 0, 1) if found is None else found[1]

    def number(self) -> Tensor:
        """0, 1, 2 … for the rows."""
        return OPS["iota"](shape=(self.n,), axis=0, dtype=int64)


Rule = Callable[[Batch, Op, Sequence[Any], Sequence[bool], dict[str, Any]], Any]
# rule(batch, op, operands, which of them have a leading batch axis, attributes) → results, all with a batch axis
RULES: dict[str, Rule] = {}  # by the name of an op or of a family; where there is none, rows are gone through
GUARDED: set[str] = set()  # rules that are wanted under a mask, though no operand differs between rows


def rule(*names: str, guarded: bool = False) -> Callable[[Rule], Rule]:
    def register(f: Rule) -> Rule:
        for n in names:
            RULES[n] = f
            if guarded:
                GUARDED.add(n)
        return f

    return register


def rule_of(op: Op) -> Rule | None:
    return RULES.get(op.name) or RULES.get(op.family)


def reshaped(x: Operand, *shape: Size) -> Any:
    return x if tuple(x.shape) == shape else OPS["reshape"](x, shape=shape)


def _rank(x: Operand, has: bool) -> int:
    return len(x.shape) - has


def padded(x: Operand, rank: int, tail: int = 0) -> Any:
    """A batched operand with unit axes behind the batch axis, so that rows have this rank; `tail` axes are left out."""
    s = tuple(x.shape)
    own = len(s) - 1 - tail
    return reshaped(x, s[0], *[1] * (rank - own), *s[1:])


# --- elementwise and reductions ---------------------------------------------------------------------------------------
@rule("elementwise", "real", "imag", "conj", "complex")
def _elementwise(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    rank = max(_rank(x, h) for x, h in zip(xs, has, strict=True))
    return op(*[padded(x, rank) if h else x for x, h in zip(xs, has, strict=True)], **attrs)


@rule("reduce", "cumsum", "cumprod", "argsort", "sort", "top_k")
def _along_axes(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    axis = attrs["axis"]
    moved = tuple([a + 1 for a in axis]) if isinstance(axis, tuple) else axis + 1
    return op(xs[0], **{**attrs, "axis": moved})


# --- movement ---------------------------------------------------------------------------------------------------------
@rule("reshape")
def _reshape(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    return reshaped(xs[0], b.n, *resolve_shape(tuple(xs[0].shape[1:]), attrs["shape"]))  # type: ignore[arg-type]


@rule("transpose")
def _transpose(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    return op(xs[0], perm=(0, *[p + 1 for p in attrs["perm"]]))


@rule("broadcast_to")
def _broadcast_to(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    shape = attrs["shape"]
    return op(padded(xs[0], len(shape)), shape=(b.n, *shape))


@rule("stretch", "shrink")
def _stretch(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    return op(xs[0], shape=(b.n, *attrs["shape"]))


@rule("slice")
def _slice(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    return op(xs[0], start=(0, *attrs["start"]), size=(b.n, *attrs["size"]), step=(1, *attrs["step"]))


@rule("place")
def _place(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    ahead = {"shape": (b.n, *attrs["shape"]), "start": (0, *attrs["start"]), "step": (1, *attrs["step"])}
    return op(xs[0], **{**attrs, **ahead})


@rule("update")
def _update(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    both = [b.spread(x, h) for x, h in zip(xs, has, strict=True)]
    return op(*both, start=(0, *attrs["start"]), step=(1, *attrs["step"]))


@rule("concat")
def _concat(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    return op(*[b.spread(x, h) for x, h in zip(xs, has, strict=True)], axis=attrs["axis"] + 1)


@rule("convolved", "unconvolved", "correlated", "largest")
def _first(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    """The value, which has derivatives of its own; those by rule are for images without further axes."""
    return b.spread(xs[0], has[0])


@rule("fft", "rfft", "irfft")
def _transform(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    return op(xs[0], **{**attrs, "axes": tuple([a + 1 for a in attrs["axes"]])})


# --- products ---------------------------------------------------------------------------------------------------------
@rule("matmul")
def _matmul(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    x, y = xs
    ta, tb = attrs.get("ta", False), attrs.get("tb", False)
    if not has[1] and not ta and len(y.shape) == 2:  # the rows' matrices below each other are one matrix
        lead = tuple(x.shape[:-1])
        z = op(reshaped(x, product(lead), x.shape[-1]), y, tb=tb)
        return reshaped(z, *lead, z.shape[-1])
    if not has[0] and len(x.shape) == 2 and len(y.shape) == 3 and is_unit(y.shape[1 if tb else 2]):
        z = op(reshaped(y, b.n, y.shape[2 if tb else 1]), x, tb=not ta)  # type: ignore[arg-type]  # a matrix and vectors
        return reshaped(z, *z.shape, 1)
    rank = max(_rank(x, has[0]), _rank(y, has[1])) - 2
    x, y = [padded(t, rank, 2) if h else t for t, h in zip(xs, has, strict=True)]
    return op(x, y, **attrs)


# --- matrices ---------------------------------------------------------------------------------------------------------
_OF_MATRICES = "cholesky qr svd eigh eig lu inv det slogdet adjugate expm sqrtm logm".split()


@rule(*_OF_MATRICES, guarded=True)
def _of_matrices(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    return op(_sound(b, xs[0], has[0]), **attrs)


@rule("solve", "triangular_solve", "tridiagonal_solve", guarded=True)
def _of_systems(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    rank = max(_rank(x, h) for x, h in zip(xs, has, strict=True)) - 2
    both = _sound(b, xs[0], has[0], op.name == "tridiagonal_solve"), xs[1]
    return op(*[padded(x, rank, 2) if h else x for x, h in zip(both, has, strict=True)], **attrs)


@rule("pinv", guarded=True)
def _pseudo_inverse(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    both = _sound(b, xs[0], has[0]), xs[1]
    return op(*[b.spread(x, h) for x, h in zip(both, has, strict=True)] if any(has) else both)


def _sound(b: Batch, a: Operand, has: bool, lines: bool = False) -> Any:
    """Matrices, or diagonals in three lines, of rows that count; in the others the identity, which nobody refuses."""
    if b.mask is None:
        return a
    m, n = a.shape[-2:]
    down, along = (OPS["iota"](shape=s, axis=k, dtype=int64) for k, s in enumerate(((m, 1), (1, n))))
    one = OPS["equal"](OPS["add"](down, OPS["mul"](along, 0)), 1) if lines else OPS["equal"](down, along)
    counts = _rows_of(b.mask, a) if has else OPS["reduce_any"](b.mask, axis=(0,))
    return OPS["where"](counts, a, OPS["cast"](one, dtype=a.dtype))


# --- positions that are data ------------------------------------------------------------------------------------------
def _inside(b: Batch, i: Operand, has: bool) -> Any:
    """Positions of rows that count; 0 in the others."""
    if b.mask is None:
        return i
    if not has:
        return OPS["where"](OPS["reduce_any"](b.mask, axis=(0,)), i, 0)
    return OPS["where"](_rows_of(b.mask, i), i, 0)


def _rows_of(mask: Operand, x: Operand) -> Any:
    """One value for each row, with unit axes for those of the rows of x."""
    return reshaped(mask, mask.shape[0], *[1] * (len(x.shape) - 1))


def _global(b: Batch, i: Operand, has: bool, size: Size) -> Any:
    """Positions in the rows laid out one behind the other, from positions in each row."""
    i = OPS["cast"](b.spread(i, has), dtype=int64)
    i = OPS["where"](OPS["less"](i, 0), OPS["add"](i, size), i)
    return OPS["add"](i, OPS["mul"](_rows_of(b.number(), i), size))


def _end_to_end(x: Operand, axis: int) -> Any:
    """Rows one behind the other along an axis of theirs, which becomes the first."""
    x = moveaxis(x, axis + 1, 1)
    s = tuple(x.shape)
    return reshaped(x, s[0] * s[1], *s[2:])


def _apart(b: Batch, x: Operand, size: Size, axis: int) -> Any:
    """The inverse of `_end_to_end`."""
    return moveaxis(reshaped(x, b.n, size, *x.shape[1:]), 1, axis + 1)  # type: ignore[arg-type]


def _span(start: int, count: int) -> tuple[int, ...]:
    return tuple(range(start, start + count))


@rule("gather", guarded=True)
def _gather(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    x, axis = xs[0], attrs["axis"]
    i = _inside(b, xs[1], has[1])
    if not has[1]:
        return op(x, i, axis=axis + has[0])
    if not has[0]:
        return moveaxis(op(x, i, axis=axis), axis, 0)
    y = op(_end_to_end(x, axis), _global(b, i, True, x.shape[axis + 1]), axis=0)
    k = len(i.shape) - 1
    return moveaxis(y, _span(1, k), _span(1 + axis, k)) if k and axis else y


@rule("scatter_sum", guarded=True)
def _scatter_sum(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    axis, size = attrs["axis"], attrs["size"]
    i = _inside(b, xs[1], has[1])
    if not has[1]:
        return op(xs[0], i, size=size, axis=axis + has[0])
    g = b.spread(xs[0], has[0])
    k = len(i.shape) - 1
    if k and axis:
        g = moveaxis(g, _span(1 + axis, k), _span(1, k))
    return _apart(b, op(g, _global(b, i, True, size), size=b.n * size, axis=0), size, axis)  # type: ignore[operator]


@rule("put", *COMBINED, guarded=True)
def _put(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    axis = attrs["axis"]
    i = _inside(b, xs[1], has[1])
    if not any(has):
        return op(xs[0], i, xs[2], axis=axis)
    x, v = b.spread(xs[0], has[0]), b.spread(xs[2], has[2])
    if not has[1]:
        return op(x, i, v, axis=axis + 1)
    size, k = x.shape[axis + 1], len(i.shape) - 1
    if k and axis:
        v = moveaxis(v, _span(1 + axis, k), _span(1, k))
    return _apart(b, op(_end_to_end(x, axis), _global(b, i, True, size), v, axis=0), size, axis)


@rule("bitcast")
def _bitcast(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    return op(xs[0], **attrs)


@rule("search")
def _search(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    s, v = xs
    if not has[0] and len(s.shape) == 1:  # all rows search in one sequence
        return reshaped(op(s, reshaped(v, product(tuple(v.shape))), **attrs), *v.shape)
    return op(b.spread(s, has[0]), b.spread(v, has[1]), **attrs)


# --- conditions that must hold ----------------------------------------------------------------------------------------
@rule("check", guarded=True)
def _check(b: Batch, op: Op, xs: Sequence[Any], has: Sequence[bool], attrs: dict[str, Any]) -> Any:
    ok, data = xs[0], list(xs[1:])
    if b.mask is not None:
        off = OPS["logical_not"](b.mask)
        ok = OPS["logical_or"](ok, off if has[0] else OPS["reduce_all"](off, axis=(0,)))
        if attrs.get("bounds") and has[1]:  # the message shows an element outside: not one of a row that does not count
            data[0] = OPS["where"](_rows_of(b.mask, data[0]), data[0], 0)
    op(OPS["reduce_all"](ok, axis=(0,)) if has[0] else ok, *data, **attrs)
    return ()


def chosen(p: Operand, x: Operand, y: Operand, has: tuple[bool, bool], b: Batch) -> Any:
    """x in the rows where p is true, y in the others."""
    if x is y:
        return b.spread(x, has[0])
    wide = x if has[0] else y if has[1] else None
    if wide is None:
        x, has = b.spread(x), (True, has[1])
        wide = x
    return OPS["where"](_rows_of(p, wide), x, y)
