"""Sequences read from chances and compared: CTC's decoders and unique labels, the edit distance."""

from __future__ import annotations

import math
from typing import Any

from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.ir.sizes import fit, known_equal
from tracejit.ir.types import float32, int32, int64, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import reduce as R
from tracejit.ops import shape as S
from tracejit.ops.args import Size, as_size, floating, operand, require
from tracejit.ops.array import concat, cut, transpose
from tracejit.ops.creation import counter
from tracejit.ops.flow import foldl
from tracejit.ops.math import logaddexp
from tracejit.ops.nn import log_softmax
from tracejit.ops.reductions import argmax, reduce_all, reduce_any, reduce_logsumexp, reduce_max, reduce_min, reduce_sum
from tracejit.ops.select import gather, take_along_axis, top_k
from tracejit.ops.sparse import SparseTensor, dense_rows, sparse_rows
from tracejit.tensor import Operand, Tensor, convert

PADDING = -1  # behind the end of a row of labels


def _filled(value: Any, dtype: Any, *shape: Size) -> Tensor:
    return S.broadcast_to(convert(value, dtype), shape=shape)  # type: ignore[no-any-return]


def _inputs(inputs: Any, sequence_length: Any, blank_index: Any) -> tuple[Operand, Operand, int]:
    """Logits [times, batch, classes], how many times count, and the class that stands for no label."""
    x, steps = floating(inputs), operand(sequence_length)
    if x.ndim != 3:
        raise locate(ShapeError(f"inputs {show_shape(x.shape)} have {x.ndim} axes, not 3: times, batch, classes"))
    if steps.dtype.kind not in "iu" or steps.ndim != 1 or not known_equal(steps.shape[0], x.shape[1]):
        raise locate(ShapeError(f"sequence_length {steps.type} is not one integer for each of {x.shape[1]} sequences"))
    classes = int(as_size(x.shape[2], "the number of classes"))
    blank = classes - 1 if blank_index is None else int(as_size(blank_index, "blank_index"))
    blank = blank + classes if blank < 0 else blank
    require(0 <= blank < classes, f"blank_index {blank} is not one of {classes} classes")
    return x, E.cast(steps, dtype=int64), blank


def _packed(labels: Tensor, new: Tensor) -> Tensor:
    """Rows of labels of which those that are `new` come first, PADDING behind them."""
    batch, n = labels.shape
    place = E.where(new, E.sub(R.cumsum(E.cast(new, dtype=int64), axis=1, exclusive=False, reverse=False), 1), n)
    flat = E.add(place, E.mul(counter(batch, 2, 0, int64), n + 1))
    empty = _filled(PADDING, labels.dtype, batch * (n + 1))
    rows = I.put(empty, flat, labels, axis=0)
    return cut(S.reshape(rows, shape=(batch, n + 1)), 1, 0, n)


def ctc_greedy_decoder(
    inputs: Any, sequence_length: Any, merge_repeated: bool = True, blank_index: Any = None, name: str | None = None
) -> tuple[list[SparseTensor], Tensor]:
    """The likeliest class at each time, without repetitions (if `merge_repeated`) and blanks.

    inputs           logits [times, batch, classes]
    sequence_length  [batch], integers: how many times count
    blank_index      the last class unless given; negative ones count from the end
    result           a list of one `SparseTensor` [batch, longest row], int64; −Σ of the largest logits [batch, 1]
    """
    x, steps, blank = _inputs(inputs, sequence_length, blank_index)
    times, batch = x.shape[:2]
    best = transpose(E.cast(argmax(x, -1), dtype=int64), [1, 0])
    inside = E.less(counter(times, 2, 1, int64), S.reshape(steps, shape=(batch, 1)))
    new = E.logical_and(E.not_equal(best, blank), inside)
    if merge_repeated and not known_equal(times, 0):
        before = concat([_filled(blank, int64, batch, 1), cut(best, 1, 0, times - 1)], 1)
        new = E.logical_and(new, E.not_equal(best, before))
    score = reduce_sum(E.where(inside, transpose(reduce_max(x, -1), [1, 0]), 0.0), 1)
    return [sparse_rows(_packed(best, new))], S.reshape(E.neg(score), shape=(batch, 1))


# --- beams ------------------------------------------------------------------------------------------------------------
def ctc_beam_search_decoder(
    inputs: Any, sequence_length: Any, beam_width: int = 100, top_paths: int = 1, name: str | None = None
) -> tuple[list[SparseTensor], Tensor]:
    """The likeliest sequences of labels that a search with this many beams finds; the last class is the blank.

    inputs           logits [times, batch, classes]
    sequence_length  [batch], integers: how many times count
    result           a list of `top_paths` `SparseTensor`s [batch, longest row], int64; and the logarithms of their
                     probabilities [batch, top_paths]

    The prefix search of Graves 2012, "Supervised sequence labelling with recurrent neural networks": the chances of a
    prefix that ends in a blank and of one that does not are kept apart, and equal prefixes are one. Without gradient.
    """
    x, steps, blank = _inputs(inputs, sequence_length, None)
    width, paths = int(as_size(beam_width, "beam_width")), int(as_size(top_paths, "top_paths"))
    require(1 <= paths <= width, f"top_paths is 1 … beam_width = {width}, not {paths}")
    times, batch, _ = x.shape
    logs = E.stop_gradient(log_softmax(x))
    first = E.where(E.equal(counter(width, 2, 1, int64), 0), 0.0, -math.inf)
    silent = S.broadcast_to(E.cast(first, dtype=x.dtype), shape=(batch, width))
    spoken = _filled(-math.inf, x.dtype, batch, width)
    state = (_filled(PADDING, int64, batch, width, times), _filled(0, int64, batch, width), silent, spoken)
    on = E.less(counter(times, 2, 0, int64), S.reshape(steps, shape=(1, batch)))

    def step(state: Any, given: Any) -> Any:
        now, live = given
        made = _advanced(state, now, blank)
        return tuple(
            E.where(S.reshape(live, shape=(batch, *[1] * (a.ndim - 1))), b, a) for a, b in zip(state, made, strict=True)
        )

    labels, _, silent, spoken = foldl(step, (logs, on), initializer=state)
    score, order = top_k(logaddexp(silent, spoken), paths)
    rows = gather(labels, order, axis=1, batch_dims=1)
    return [sparse_rows(S.reshape(cut(rows, 1, i, 1), shape=(batch, times))) for i in range(paths)], score


def _advanced(state: Any, now: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The beams after one more time: the best among those that stay as they are and those that get one more label.

    `now` are the logarithms of the classes' chances and, in the last place, of the blank's.
    """
    labels, lengths, silent, spoken = state
    batch, width, times = labels.shape
    chances = S.reshape(cut(now, 1, 0, classes), shape=(batch, 1, classes))
    total = logaddexp(silent, spoken)
    at = S.reshape(E.maximum(E.sub(lengths, 1), 0), shape=(batch, width, 1))
    last = S.reshape(take_along_axis(labels, at, 2), shape=(batch, width))  # −1 of no labels
    again = E.equal(S.reshape(last, shape=(batch, width, 1)), counter(classes, 3, 2, int64))
    base = E.where(again, S.reshape(silent, shape=(batch, width, 1)), S.reshape(total, shape=(batch, width, 1)))
    longer = E.add(base, chances)  # [batch, beam, label]
    own = E.where(E.greater_equal(last, 0), take_along_axis(now, E.maximum(last, 0), 1), -math.inf)
    stay_spoken = E.add(spoken, own)
    stay_silent = E.add(total, cut(now, 1, classes, 1))
    # a longer prefix that is another beam's own joins it
    joined = _same_prefix(labels, lengths, last)  # [batch, parent, child]
    taken = E.logical_and(
        S.reshape(joined, shape=(batch, width, width, 1)),
        E.equal(S.reshape(last, shape=(batch, 1, width, 1)), counter(classes, 4, 3, int64)),
    )
    given = E.where(taken, S.reshape(longer, shape=(batch, width, 1, classes)), -math.inf)
    stay_spoken = logaddexp(stay_spoken, reduce_logsumexp(given, [1, 3]))
    longer = E.where(reduce_any(taken, 2), -math.inf, longer)
    scores = concat([logaddexp(stay_silent, stay_spoken), S.reshape(longer, shape=(batch, width * classes))], 1)
    best, order = top_k(scores, width, index_type=int64)
    stays = E.less(order, width)
    grown = E.maximum(E.sub(order, width), 0)
    parent = E.where(stays, order, E.floordiv(grown, classes))
    label = E.where(stays, PADDING, E.floormod(grown, classes))
    size = take_along_axis(lengths, parent, 1)
    old = gather(labels, parent, axis=1, batch_dims=1)
    here = E.equal(counter(times, 3, 2, int64), S.reshape(size, shape=(batch, width, 1)))
    put = E.logical_and(here, S.reshape(E.logical_not(stays), shape=(batch, width, 1)))
    labels = E.where(put, S.reshape(label, shape=(batch, width, 1)), old)
    return (
        labels, E.add(size, E.cast(E.logical_not(stays), dtype=int64)),
        E.where(stays, take_along_axis(stay_silent, parent, 1), -math.inf),
        E.where(stays, take_along_axis(stay_spoken, parent, 1), best),
    )  # fmt: skip


def _same_prefix(labels: Tensor, lengths: Tensor, last: Tensor) -> Tensor:
    """Whether a beam's labels are those of another one before its last: [batch, parent, child]."""
    batch, width, times = labels.shape
    behind = E.greater_equal(counter(times, 3, 2, int64), S.reshape(E.sub(lengths, 1), shape=(batch, width, 1)))
    before = E.where(behind, PADDING, labels)
    same = E.equal(S.reshape(labels, shape=(batch, width, 1, times)), S.reshape(before, shape=(batch, 1, width, times)))
    one_more = E.equal(
        E.add(S.reshape(lengths, shape=(batch, width, 1)), 1), S.reshape(lengths, shape=(batch, 1, width))
    )
    return E.logical_and(reduce_all(same, 3), one_more)


# --- labels -----------------------------------------------------------------------------------------------------------
def ctc_unique_labels(labels: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """The different labels of each row in the order of their first occurrence, 0 behind them, and the number among
    these of each label: [batch, labels] as int64 and as int32.
    """
    given = operand(labels)
    if given.dtype.kind not in "iu" or given.ndim != 2:
        raise locate(DTypeError(f"labels are integers with 2 axes, not {given.type}"))
    y = E.cast(given, dtype=int64)
    batch, n = y.shape
    equal = E.equal(S.reshape(y, shape=(batch, n, 1)), S.reshape(y, shape=(batch, 1, n)))
    place = counter(n, 3, 2, int64)
    first = reduce_min(E.where(equal, place, n), 2)
    new = E.equal(first, counter(n, 2, 1, int64))
    number = E.sub(R.cumsum(E.cast(new, dtype=int64), axis=1, exclusive=False, reverse=False), 1)
    idx = take_along_axis(number, first, 1)
    rows = _packed(y, new)
    counts = S.reshape(reduce_sum(E.cast(new, dtype=int64), 1), shape=(batch, 1))
    rows = E.where(E.less(counter(n, 2, 1, int64), counts), rows, 0)
    return rows, E.cast(idx, dtype=int32)


def edit_distance(hypothesis: Any, truth: Any, normalize: bool = True, name: str = "edit_distance") -> Tensor:
    """How many insertions, deletions and substitutions make `truth` of `hypothesis`, by the length of truth.

    hypothesis, truth   [..., labels], integers: `SparseTensor`s, or tensors in which the labels of a row end before
                        its first negative one
    normalize           divide by the length of truth: ∞ where that is 0 and hypothesis is not empty, else 0
    result              float32, with the leading axes
    """
    h, t = dense_rows(hypothesis), dense_rows(truth)
    if h.dtype.kind not in "iu" or t.dtype.kind not in "iu" or not h.ndim or h.ndim != t.ndim:
        raise locate(DTypeError(f"hypothesis {h.type} and truth {t.type} are integers with as many axes, 1 or more"))
    if not all(map(fit, h.shape[:-1], t.shape[:-1])):
        raise locate(ShapeError(f"hypothesis {h.type} and truth {t.type} differ in their leading axes"))
    lead, n = tuple(t.shape[:-1]), t.shape[-1]
    h, t = E.cast(h, dtype=int64), E.cast(t, dtype=int64)
    length = _row_lengths(t)
    place = counter(n + 1, t.ndim, t.ndim - 1, int64)
    start = S.broadcast_to(place, shape=(*lead, n + 1))
    ahead = counter(n + 1, t.ndim + 1, t.ndim, int64)  # behind each place those up to it
    upto = E.less_equal(ahead, S.reshape(place, shape=(*place.shape, 1)))

    def step(before: Any, given: Any) -> Any:
        label, on = given
        differs = E.cast(E.not_equal(t, S.reshape(label, shape=(*lead, 1))), dtype=int64)
        changed = E.add(cut(before, t.ndim - 1, 0, n), differs)
        down = E.add(before, 1)
        best = E.minimum(down, concat([cut(down, t.ndim - 1, 0, 1), changed], -1))
        free = S.reshape(E.sub(best, place), shape=(*lead, 1, n + 1))
        after = E.add(reduce_min(E.where(upto, free, 1 << 40), -1), place)
        return E.where(S.reshape(on, shape=(*lead, 1)), after, before)

    rank = h.ndim
    order = [rank - 1, *range(rank - 1)]
    inside = E.less(counter(h.shape[-1], rank, rank - 1, int64), S.reshape(_row_lengths(h), shape=(*lead, 1)))
    after = foldl(step, (transpose(h, order), transpose(inside, order)), initializer=start)
    d = E.cast(take_along_axis(after, S.reshape(length, shape=(*lead, 1)), -1), dtype=float32)
    d = S.reshape(d, shape=lead)
    if not normalize:
        return d
    size = E.cast(length, dtype=float32)
    empty = E.equal(size, 0)
    return E.where(empty, E.where(E.equal(d, 0), 0.0, math.inf), E.div(d, E.where(empty, 1.0, size)))


def _row_lengths(x: Tensor) -> Tensor:
    """How many elements of the last axis stand before the first negative one."""
    n = x.shape[-1]
    place = counter(n, x.ndim, x.ndim - 1, int64)
    ends = E.where(E.less(x, 0), place, n)
    ends = concat([ends, E.add(_filled(0, int64, *x.shape[:-1], 1), n)], -1)
    return reduce_min(ends, -1)
