"""Connectionist temporal classification: the loss of sequences whose labels have no times, and what it needs."""

from __future__ import annotations

import math
from typing import Any

from tracejit.errors import DTypeError, ShapeError, locate
from tracejit.ir.sizes import known_equal
from tracejit.ir.types import int64, show_shape
from tracejit.ops import elementwise as E
from tracejit.ops import index as I
from tracejit.ops import reduce as R
from tracejit.ops import shape as S
from tracejit.ops.args import as_size, floating, open_size, operand
from tracejit.ops.array import concat, cut, transpose
from tracejit.ops.check import require_range
from tracejit.ops.creation import counter
from tracejit.ops.flow import foldl
from tracejit.ops.math import logaddexp
from tracejit.ops.nn import log_softmax
from tracejit.ops.reductions import reduce_max, reduce_sum
from tracejit.tensor import Operand, Tensor, convert


def _integers(x: Any, rank: int, what: str) -> Operand:
    t = operand(x)
    if t.dtype.kind not in "iu" or t.ndim != rank:
        raise locate(DTypeError(f"{what} are integers with {rank} {'axes' if rank > 1 else 'axis'}, not {t.type}"))
    return E.cast(t, dtype=int64)


def ctc_loss(
    labels: Any, logits: Any, label_length: Any, logit_length: Any, logits_time_major: bool = True, unique: Any = None,
    blank_index: Any = None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """−log of the probability that classes drawn at each time, without repetitions and then without blanks, are labels.

    labels        [batch, most labels], integers
    logits        [times, batch, classes], or [batch, times, classes] if not `logits_time_major`
    label_length, logit_length   [batch]: how many of them count; other labels may be anything
    blank_index   the class that stands for no label, 0 unless given; negative ones count from the end
    result        [batch]; ∞ where the times do not suffice for the labels

    The forward algorithm of Graves et al. 2006 in logarithms, as a loop over times; gradients go back through it.
    `unique` is taken and not needed.
    """
    x, y = floating(logits), _integers(labels, 2, "labels")
    if x.ndim != 3:
        raise locate(ShapeError(f"logits {show_shape(x.shape)} have {x.ndim} axes, not 3: times, batch, classes"))
    x = x if logits_time_major else transpose(x, [1, 0, 2])
    times, batch, classes = x.shape
    count, steps = _integers(label_length, 1, "label_length"), _integers(logit_length, 1, "logit_length")
    for t, what in ((y, "labels"), (count, "label_length"), (steps, "logit_length")):
        if not known_equal(t.shape[0], batch):
            raise locate(ShapeError(f"{what} {t.type} do not go with a batch of {batch}"))
    blank = 0 if blank_index is None else int(as_size(blank_index, "blank_index"))
    blank = blank + int(classes) if blank < 0 else blank
    wanted = E.less(counter(y.shape[1], 2, 1, int64), S.reshape(count, shape=(batch, 1)))
    y = E.where(wanted, y, blank)
    require_range(y, classes, "label {} is not one of {high} classes", negative=False)
    states = _states(y, blank)
    chances = _chances(log_softmax(x), states)
    place = counter(states.shape[1], 2, 1, int64)
    open_ends = S.reshape(E.mul(count, 2), shape=(batch, 1))
    start = E.where(E.less_equal(place, E.minimum(open_ends, 1)), chances[0], -math.inf)
    none = E.cast(E.where(E.equal(place, 0), 0.0, -math.inf), dtype=start.dtype)  # no time tells no label alone
    start = E.where(E.greater(S.reshape(steps, shape=(batch, 1)), 0), start, none)
    skips = _skips(states, blank)

    def step(alpha: Any, given: Any) -> Tensor:
        t, now = given
        reached = logaddexp(alpha, _moved(alpha, 1))
        reached = logaddexp(reached, E.where(skips, _moved(alpha, 2), -math.inf))
        on = E.less(t, S.reshape(steps, shape=(batch, 1)))
        return E.where(on, E.add(reached, now), alpha)

    later = counter(times, 1, 0, int64)
    alpha = foldl(step, (later[1:], chances[1:]), initializer=start) if not known_equal(times, 1) else start
    ends = E.logical_or(E.equal(place, open_ends), E.equal(place, E.sub(open_ends, 1)))
    last = E.where(ends, alpha, -math.inf)
    return E.neg(_log_sum(last))


def _chances(x: Tensor, states: Tensor) -> Tensor:
    """Those of the states among the classes' [times, batch, classes]."""
    times, batch, classes = x.shape
    step, row = counter(times, 3, 0, int64), counter(batch, 3, 1, int64)
    at = E.add(E.mul(E.add(E.mul(step, batch), row), classes), S.reshape(states, shape=(1, *states.shape)))
    return I.gather(S.reshape(x, shape=(times * batch * classes,)), at, axis=0)  # type: ignore[no-any-return]


def _log_sum(x: Tensor) -> Tensor:
    """log Σ eˣ along the last axis, −∞ of −∞ alone, where nothing has a gradient."""
    m = E.stop_gradient(reduce_max(x, -1, True))
    shift = E.where(E.isfinite(m), m, 0.0)
    total = reduce_sum(E.exp(E.sub(x, shift)), -1)
    none = E.equal(total, 0)
    safe = E.add(E.log(E.where(none, 1.0, total)), S.reshape(shift, shape=tuple(total.shape)))
    return E.where(none, -math.inf, safe)


def _states(labels: Operand, blank: int) -> Tensor:
    """Labels with blanks before, between and after them."""
    batch, most = labels.shape
    blanks = S.broadcast_to(convert(blank, int64), shape=(batch, most, 1))
    pairs = S.reshape(concat([blanks, S.reshape(labels, shape=(batch, most, 1))], 2), shape=(batch, most * 2))
    return concat([pairs, S.broadcast_to(convert(blank, int64), shape=(batch, 1))], 1)


def _skips(states: Tensor, blank: int) -> Tensor:
    """Which states can be reached from the last but one: labels that differ from the label before."""
    n = states.shape[1]
    wide = concat([S.broadcast_to(convert(blank, int64), shape=(states.shape[0], 2)), states], 1)
    return E.logical_and(E.not_equal(states, blank), E.not_equal(states, cut(wide, 1, 0, n)))


def _moved(alpha: Tensor, by: int) -> Tensor:
    """Each state's value in the state that is so many further on."""
    n = alpha.shape[1]
    ahead = S.broadcast_to(convert(-math.inf, alpha.dtype), shape=(alpha.shape[0], by))
    return cut(concat([ahead, alpha], 1), 1, 0, n)


def collapse_repeated(labels: Any, seq_length: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """Rows of labels without those that repeat the one before, as long as the longest needs, 0 behind their end.

    labels [batch, time] and seq_length [batch] are integers; the second result is the rows' new lengths.
    """
    given = operand(labels)
    y, length = _integers(given, 2, "labels"), _integers(seq_length, 1, "seq_length")
    batch, n = y.shape
    if not known_equal(length.shape[0], batch):
        raise locate(ShapeError(f"seq_length {length.type} does not go with labels {given.type}"))
    time = counter(n, 2, 1, int64)
    before = cut(concat([y, y], 1), 1, n - 1, n)
    new = E.logical_or(E.equal(time, 0), E.not_equal(y, before))
    new = E.logical_and(new, E.less(time, S.reshape(length, shape=(batch, 1))))
    number = E.cast(new, dtype=int64)
    lengths = reduce_sum(number, 1)
    width = open_size(reduce_max(concat([S.reshape(convert(0, int64), shape=(1,)), lengths], 0)))
    column = E.where(new, E.sub(R.cumsum(number, axis=1, exclusive=False, reverse=False), 1), width)
    place = E.add(column, E.mul(counter(batch, 2, 0, int64), width + 1))
    flat = I.scatter_sum(E.where(new, y, 0), place, size=batch * (width + 1), axis=0)
    rows = cut(S.reshape(flat, shape=(batch, width + 1)), 1, 0, width)
    return E.cast(rows, dtype=given.dtype), E.cast(lengths, dtype=operand(seq_length).dtype)
