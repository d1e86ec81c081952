"""Scaled dot-product attention: a composition that fuses, over blocks of queries where the scores would be large."""

from __future__ import annotations

import math
from typing import Any

from tracejit.autodiff.recompute import recompute_grad
from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.sizes import fit, known_equal, product
from tracejit.ir.types import float32, int64
from tracejit.ops import elementwise as E
from tracejit.ops.args import factors, floating, operand
from tracejit.ops.array import broadcast_static_shape, broadcast_to, moveaxis, pad, repeat, reshape
from tracejit.ops.creation import cast, counter, stop_gradient
from tracejit.ops.flow import map_fn
from tracejit.ops.found import as_open_number, is_open
from tracejit.ops.linalg import own_matmul
from tracejit.ops.random import dropout
from tracejit.ops.reductions import peak, reduce_sum
from tracejit.tensor import Operand, Tensor

LARGE = 1 << 18  # scores of one head from which they are computed in blocks
BLOCK = 64  # queries


def scaled_dot_product_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: Any = None, enable_gqa: bool = False, name: str | None = None,
) -> Tensor:  # fmt: skip
    """softmax(query keyᵀ · scale + mask) value, the attention of Vaswani et al. 2017, "Attention is all you need".

    query: [..., L, E], key: [..., S, E], value: [..., S, V], of one floating dtype; the axes before the last two
    broadcast. The result is [..., L, V]. `attn_mask` broadcasts to [..., L, S]: a bool says which keys take part, a
    number is added to the scores. `is_causal` leaves out the keys after the query's own position. A query for which
    no key is left gives 0. `dropout_p` leaves out that share of the weights. `scale` is 1 / √E by default. With
    `enable_gqa` each head of key and value serves as many heads of the query as it takes (the third axis from the
    end). The names are PyTorch's; TensorFlow has no such function.

    Scores are float32 for float16 and bfloat16 operands. Where L · S is large (2¹⁸ numbers or more) the scores are
    computed for 64 queries at a time, again for the gradient, and never lie in memory as a whole; where L is a size
    that the trace leaves open they are computed for one head at a time.

    Raises ShapeError and DTypeError where operands do not fit.
    """
    q, k, v = factors(floating(query), floating(key), floating(value))
    _fit(q, k, v)
    if enable_gqa:
        k, v = _shared(q, k), _shared(q, v)
    mask = None if attn_mask is None else _mask(attn_mask, q, k)
    factor = _factor(q) if scale is None else scale

    def attend(q: Operand, k: Operand, v: Operand, mask: Operand | None, first: Any) -> Tensor:
        return _attend(q, k, v, mask, first if is_causal else None, factor, dropout_p)

    queries, keys = q.shape[-2], k.shape[-2]
    if queries * keys < LARGE:
        return attend(q, k, v, mask, 0)
    if isinstance(queries, Dim):
        return _by_heads(attend, q, k, v, mask)
    return _by_blocks(attend, q, k, v, mask)


def _factor(q: Operand) -> Any:
    """1 / √E."""
    width, dtype = q.shape[-1], q.dtype if q.dtype.size >= 4 else float32
    if not is_open(width):
        return 1 / math.sqrt(int(width) or 1)
    return E.rsqrt(E.cast(E.maximum(as_open_number(width), 1), dtype=dtype))


def _fit(q: Operand, k: Operand, v: Operand) -> None:
    shown = ", ".join(f"{n} {x.type}" for n, x in (("query", q), ("key", k), ("value", v)))
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise locate(ShapeError(f"query, key and value have two axes or more, found {shown}"))
    if not (q.dtype is k.dtype is v.dtype) or q.dtype.kind != "f":
        raise locate(DTypeError(f"query, key and value are real numbers of one floating dtype, found {shown}"))
    if not (fit(q.shape[-1], k.shape[-1]) and fit(k.shape[-2], v.shape[-2])):
        raise locate(ShapeError(f"query [..., L, E] needs key [..., S, E] and value [..., S, V], found {shown}"))


def _shared(q: Operand, x: Operand) -> Operand:
    """The heads of keys or values, each as often as heads of the query use it."""
    if min(q.ndim, x.ndim) < 3:
        raise locate(ShapeError(f"with enable_gqa operands have three axes or more, found {q.type} and {x.type}"))
    ours, theirs = q.shape[-3], x.shape[-3]
    fits = isinstance(ours, int) and isinstance(theirs, int) and theirs > 0 and ours % theirs == 0
    if not fits:
        raise locate(ShapeError(f"with enable_gqa the query's {ours} heads are a multiple of the {theirs} of {x.type}"))
    return x if ours == theirs else repeat(x, ours // theirs, axis=x.ndim - 3)


def _mask(given: Any, q: Operand, k: Operand) -> Operand:
    mask = operand(given)
    if mask.dtype.kind not in "bf":
        raise locate(DTypeError(f"attn_mask holds bools, or numbers to be added to the scores, found {mask.type}"))
    scores = (q.shape[-2], k.shape[-2])
    for d, size in zip(reversed(mask.shape), reversed(scores), strict=False):
        if not (known_equal(d, size) or known_equal(d, 1)):
            raise locate(ShapeError(f"attn_mask broadcasts to [..., {scores[0]}, {scores[1]}], found {mask.type}"))
    return reshape(mask, (*[1] * (2 - mask.ndim), *mask.shape)) if mask.ndim < 2 else mask


def _attend(q: Operand, k: Operand, v: Operand, mask: Operand | None, first: Any, scale: Any, rate: float) -> Tensor:
    """The attention of queries, of which the first has this position if keys after it are left out.

    The weights are divided by their sum after the product: it has fewer numbers.
    """
    dtype = q.dtype
    scores = E.mul(own_matmul(_wide(q), _wide(k), transpose_b=True), scale)
    if mask is not None:
        taken = mask.dtype.kind == "b"
        scores = E.where(mask, scores, -math.inf) if taken else E.add(scores, E.cast(mask, dtype=scores.dtype))
    if first is not None:
        at = E.add(counter(q.shape[-2], 2, 0, int64), first)
        scores = E.where(E.greater_equal(at, counter(k.shape[-2], 2, 1, int64)), scores, -math.inf)
    weights = E.exp(E.sub(scores, stop_gradient(peak(scores, -1))))
    total = reduce_sum(weights, -1, True)
    if mask is not None or not (isinstance(k.shape[-2], int) and k.shape[-2]):
        total = E.where(E.equal(total, 0), 1.0, total)
    kept = dropout(weights, rate) if rate else weights
    return cast(E.div(own_matmul(kept, _wide(v)), total), dtype)


def _wide(x: Operand) -> Operand:
    return x if x.dtype.size >= 4 else E.cast(x, dtype=float32)


def _by_blocks(attend: Any, q: Operand, k: Operand, v: Operand, mask: Operand | None) -> Tensor:
    """As `attend`, for some queries after others."""
    length = int(q.shape[-2])
    count = -(-length // BLOCK)

    def cut(x: Operand) -> Tensor:
        more = count * BLOCK - length
        x = pad(x, [[0, 0]] * (x.ndim - 2) + [[0, more], [0, 0]]) if more else x
        return moveaxis(reshape(x, (*x.shape[:-2], count, BLOCK, x.shape[-1])), -3, 0)

    rows: dict[str, Tensor] = {"q": cut(q), "first": E.mul(counter(count, dtype=int64), BLOCK)}
    whole = mask
    if mask is not None and not known_equal(mask.shape[-2], 1):
        rows["mask"], whole = cut(mask), None

    @recompute_grad
    def block(row: dict[str, Tensor], k: Operand, v: Operand) -> Tensor:
        return attend(row["q"], k, v, row.get("mask", whole), row["first"])

    y = moveaxis(map_fn(lambda row: block(row, k, v), rows), 0, -3)
    y = reshape(y, (*y.shape[:-3], count * BLOCK, y.shape[-1]))
    return y[..., :length, :] if count * BLOCK != length else y


def _by_heads(attend: Any, q: Operand, k: Operand, v: Operand, mask: Operand | None) -> Tensor:
    """As `attend`, for one head after the other."""
    parts = {"q": q, "k": k, "v": v} if mask is None else {"q": q, "k": k, "v": v, "mask": mask}
    lead: Any = ()
    for x in parts.values():
        lead = broadcast_static_shape(lead, tuple(x.shape[:-2]))
    if not lead:
        return attend(q, k, v, mask, 0)

    def flat(x: Operand) -> Tensor:
        return reshape(broadcast_to(x, (*lead, *x.shape[-2:])), (product(lead), *x.shape[-2:]))

    @recompute_grad
    def head(row: dict[str, Tensor]) -> Tensor:
        return attend(row["q"], row["k"], row["v"], row.get("mask"), 0)

    y = map_fn(head, {n: flat(x) for n, x in parts.items()})
    return reshape(y, (*lead, *y.shape[-2:]))
