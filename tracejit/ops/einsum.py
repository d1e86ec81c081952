"""Einstein summation: an equation taken apart into sums, transposes and matrix products."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from tracejit.context import activity
from tracejit.errors import ArgumentError, DTypeError, ShapeError, locate
from tracejit.ir.sizes import fit, hint, is_unit, know_units, product, shown
from tracejit.ir.types import show_shape
from tracejit.ops import contract as C
from tracejit.ops import elementwise as E
from tracejit.ops import reduce as R
from tracejit.ops import shape as S
from tracejit.ops.args import Size, factors, operand, shown_value
from tracejit.ops.linalg import diag_part, permuted
from tracejit.ops.order import contraction_order
from tracejit.ops.quick import planned
from tracejit.tensor import Operand, Tensor

Term = tuple[Any, tuple[str, ...]]  # a tensor and a label for each of its axes


def _of_one(x: Any, equation: str) -> Tensor:
    return einsum(equation, x)


def einsum(equation: str, *inputs: Any, optimize: str = "greedy", name: str | None = None) -> Tensor:
    """The sum of products that the equation describes, such as "ij,jk->ik" or "...ii->...i".

    A letter names an axis; one that the result lacks is summed over. Without "->" the result has the letters that
    occur once, in alphabetical order. "..." stands for axes that are broadcast. Pairs are contracted in the order
    with the fewest products; `optimize` names the search for more than six operands, "greedy" or one of opt_einsum's.
    """
    if not activity.busy:
        one = len(inputs) == 1  # tensors first: their latest plan is found without a key
        quick = planned(_of_one, inputs[0], equation) if one else planned(einsum, equation, *inputs)
        if quick is not None:
            return quick
    if not isinstance(equation, str):
        raise locate(DTypeError(f"the equation is a string, not {shown_value(equation)}"))
    given = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)) else inputs
    operands = factors(*[operand(x) for x in given])
    labels, result = _parse(equation, tuple([x.ndim for x in operands]))
    sizes = _sizes(equation, operands, labels)
    terms = [_alone(x, names, sizes) for x, names in zip(operands, labels, strict=True)]
    known = {n: hint(d) for n, d in sizes.items()}
    for i, j in contraction_order([names for _, names in terms], result, known, optimize):
        rest = [t for k, t in enumerate(terms) if k not in (i, j)]
        needed = set(result).union(*[names for _, names in rest])
        pair = [_summed(t, needed.union(o[1])) for t, o in ((terms[i], terms[j]), (terms[j], terms[i]))]
        terms = [*rest, _contract(pair[0], pair[1], needed)]
    x, names = _summed(terms[0], set(result))
    y = permuted(x, [names.index(n) for n in result])
    return y if type(y) is Tensor else E.identity(y)


@functools.lru_cache
def _parse(equation: str, ranks: tuple[int, ...]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The labels of each operand's axes and of the result's; axes under an ellipsis are numbered from the end."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(ranks):
        raise locate(ArgumentError(f"einsum({equation!r}) names {len(parts)} operands, {len(ranks)} were given"))
    labels, widest = [], 0
    for part, rank in zip(parts, ranks, strict=True):
        letters = part.replace("...", "", 1)
        if not all(c.isalpha() for c in letters):
            raise locate(ArgumentError(f"einsum({equation!r}): {part!r} is not made of letters and one '...'"))
        extra = rank - len(letters)
        if extra < 0 or (extra and "..." not in part):
            raise locate(
                ShapeError(f"einsum({equation!r}): {part!r} has {len(letters)} letters, the tensor {rank} axes")
            )
        widest = max(widest, extra)
        before, dots, after = part.partition("...")
        names = [*before, *(f"…{i}" for i in range(extra, 0, -1)), *after] if dots else list(part)
        labels.append(tuple(names))
    dots_labels = tuple([f"…{i}" for i in range(widest, 0, -1)])
    if arrow:
        before, dots, after = right.partition("...")
        result = (*before, *(dots_labels if dots else ()), *after)
        seen = {n for names in labels for n in names} | set(dots_labels)
        if any(n not in seen for n in result) or len(set(result)) != len(result):
            raise locate(ArgumentError(f"einsum({equation!r}): the result {right!r} has unknown or repeated letters"))
    else:
        every = [n for names in labels for n in names if len(n) == 1]
        result = (*dots_labels, *sorted(n for n in set(every) if every.count(n) == 1))
    return labels, result


def _sizes(equation: str, operands: Sequence[Operand], labels: Sequence[tuple[str, ...]]) -> dict[str, Size]:
    """The size of each label; a size of 1 gives way to another."""
    sizes: dict[str, Size] = {}
    for x, names in zip(operands, labels, strict=True):
        for n, d in zip(names, x.shape, strict=True):
            have = sizes.setdefault(n, d)
            if is_unit(have):
                sizes[n] = d
            elif not is_unit(d) and not fit(have, d):
                know_units((have, d))
                shapes = ", ".join(show_shape(o.shape) for o in operands)
                sizes_met = f"{n!r} is both {shown(have)} and {shown(d)}"
                raise locate(ShapeError(f"einsum({equation!r}) of shapes {shapes}: {sizes_met}"))
    return sizes


def _alone(x: Operand, names: tuple[str, ...], sizes: dict[str, Size]) -> Term:
    """One operand with each label once: repeated labels become diagonals, axes to be broadcast are dropped."""
    for n in dict.fromkeys(names):
        while names.count(n) > 1:
            i = names.index(n)
            j = names.index(n, i + 1)
            x = diag_part(permuted(x, [k for k in range(x.ndim) if k not in (i, j)] + [i, j]))
            names = (*[m for k, m in enumerate(names) if k not in (i, j)], n)
    drop = [i for i, n in enumerate(names) if is_unit(x.shape[i]) and not is_unit(sizes[n])]
    if drop:
        x = S.reshape(x, shape=tuple([d for i, d in enumerate(x.shape) if i not in drop]))
        names = tuple([n for i, n in enumerate(names) if i not in drop])
    return x, names


def _summed(term: Term, needed: set[str]) -> Term:
    """The term summed over the labels that nobody else needs."""
    x, names = term
    axes = tuple([i for i, n in enumerate(names) if n not in needed])
    return (R.reduce_sum(x, axis=axes), tuple([n for n in names if n in needed])) if axes else term


def _widened(term: Term, order: Sequence[str]) -> Term:
    """The term with an axis for each label of `order`, of size 1 where it has none."""
    x, names = term
    have = [n for n in order if n in names]
    x = permuted(x, [names.index(n) for n in have])
    shape = tuple([x.shape[have.index(n)] if n in have else 1 for n in order])
    return (x if tuple(x.shape) == shape else S.reshape(x, shape=shape)), tuple(order)


def _contract(a: Term, b: Term, needed: set[str]) -> Term:
    """The product of two terms, summed over the labels that both have and nobody else needs."""
    batch = tuple([n for n in a[1] if n in b[1] and n in needed])
    inner = tuple([n for n in a[1] if n in b[1] and n not in needed])
    rows = tuple([n for n in a[1] if n not in b[1]])
    columns = tuple([n for n in b[1] if n not in a[1]])
    if not inner or not (rows or columns):  # nothing a matrix product would do better than a fused loop
        order = batch + rows + columns + inner
        y = E.mul(_widened(a, order)[0], _widened(b, order)[0])
        return _summed((y, order), needed)
    p, q = permuted(a[0], _at(a, batch + rows + inner)), permuted(b[0], _at(b, batch + inner + columns))
    lead = tuple(p.shape[: len(batch)])
    m = tuple(p.shape[len(batch) : len(batch) + len(rows)])
    k = tuple(p.shape[len(batch) + len(rows) :])
    n = tuple(q.shape[len(batch) + len(inner) :])
    outside = (product(lead),) if batch else ()
    y = C.matmul(
        S.reshape(p, shape=(*outside, product(m), product(k))), S.reshape(q, shape=(*outside, product(k), product(n)))
    )
    return S.reshape(y, shape=lead + m + n), batch + rows + columns


def _at(term: Term, order: Sequence[str]) -> list[int]:
    return [term[1].index(n) for n in order]
