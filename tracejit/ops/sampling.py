"""Gamma, Poisson, binomial and truncated normal numbers in float64, as functions of a source of random bits.

Parameters are float64 tensors with one axis, or none where all elements share them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tracejit.ir.op import Op
from tracejit.ir.types import float64
from tracejit.ops import array as A
from tracejit.ops import elementwise as E
from tracejit.ops.args import Size
from tracejit.ops.define import elementwise
from tracejit.ops.draws import Source, positions
from tracejit.ops.gamma import digamma, lgamma
from tracejit.ops.rejection import EXTRA, counts, everywhere, gaussian, inside, nowhere, until_done, words
from tracejit.tensor import Tensor

MOST = 110.0  # a Poisson or binomial number of mean 10 is larger with a probability below 1e-70


def _spread(x: Tensor, count: Size) -> Tensor:
    return A.broadcast_to(x, (count,))


def _either(first: Tensor, second: Tensor) -> Tensor:
    return E.logical_or(first, second)  # type: ignore[no-any-return]


def _both(first: Tensor, second: Tensor) -> Tensor:
    return E.logical_and(first, second)  # type: ignore[no-any-return]


# --- gamma ------------------------------------------------------------------------------------------------------------
def gamma(source: Source, alpha: Tensor, count: Size, fine: bool) -> Tensor:
    """Standard gamma numbers; NaN unless alpha ≥ 0. `fine`: from all 53 bits of normal numbers, not from 32.

    G. Marsaglia and W. W. Tsang, "A simple method for generating gamma variables" (ACM TOMS 26, 2000). Below 1 a number
    for alpha + 1 is multiplied by a power of a uniform one.
    """
    n = positions((count,))
    low = E.less(alpha, 1.0)
    d = E.sub(E.where(low, E.add(alpha, 1.0), alpha), 1.0 / 3.0)
    valid = _both(E.greater_equal(alpha, 0.0), E.less(alpha, math.inf))
    c = E.div(1.0, E.sqrt(E.mul(d, 9.0)))

    def step(states: Sequence[Tensor], given: Sequence[Tensor]) -> Any:
        (tries, _), (n, d, c, *own) = states, given
        *bits, last = words(n, tries, own, 4 if fine else 2)
        x = gaussian(bits[:2])
        v = E.add(E.mul(c, x), 1.0)
        v3 = E.mul(E.mul(v, v), v)
        positive = E.greater(v, 0.0)
        bound = E.add(E.mul(E.mul(x, x), 0.5), E.mul(d, E.add(E.sub(1.0, v3), E.log(E.where(positive, v3, 1.0)))))
        taken = _both(positive, E.less(E.log(inside(last)), bound))
        return (E.add(tries, 1), E.mul(d, v3)), E.logical_not(taken)

    first = [counts((count,)), everywhere(0.0, (count,))]
    _, y = until_done(step, _spread(valid, count), first, [n, d, c, *source])
    if not nowhere(low):
        u = inside(words(n, EXTRA, source, 2)[0])
        y = E.mul(y, E.where(low, E.exp(E.div(E.log(u), alpha)), 1.0))
    return E.where(valid, y, E.where(E.equal(alpha, math.inf), alpha, math.nan))  # type: ignore[no-any-return]


# Gauss and Legendre's rule for integrals from 0 to 1
_NODES, _WEIGHTS = (x / 2.0 for x in np.polynomial.legendre.leggauss(32))
_NODES = _NODES + 0.5
_FALL = 32.0  # an integrand is left out where it has fallen by e^-32


def slope(alpha: Tensor, y: Tensor) -> Tensor:
    """By how much a gamma number grows with alpha where the probability to exceed it stays the same.

    That is −∂P(α, y)/∂α divided by the density at y (M. Figurnov, S. Mohamed and A. Mnih, "Implicit reparameterization
    gradients", 2018): the integral of (log t − ψ(α)) p(t) / p(y) from 0 to y with the other sign, or from y to ∞; of
    both that one in which p falls from y on. In s = |log t / y| the integrand is smooth.
    """
    wide = [E.cast(x, dtype=float64) for x in (alpha, y)]
    a, t = wide[0], E.where(E.greater(wide[1], 0.0), wide[1], 1.0)
    sign = E.where(E.greater_equal(t, a), 1.0, -1.0)
    start, width = E.sub(E.log(t), digamma(a)), E.stop_gradient(E.log1p(_width(a, t)))
    total: Any = None
    for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
        far = E.expm1(E.mul(width, node))  # nodes are dense near 0, where e^-s changes, however slowly e^-as falls
        s = E.mul(far, sign)
        exponent = E.sub(E.mul(a, s), E.mul(t, E.expm1(s)))
        part = E.mul(E.mul(E.add(start, s), E.exp(exponent)), E.mul(E.add(far, 1.0), weight))
        total = part if total is None else E.add(total, part)
    r = E.mul(E.mul(E.mul(total, width), t), sign)
    return E.cast(E.where(E.greater(wide[1], 0.0), r, E.mul(wide[1], 0.0)), dtype=y.dtype)  # type: ignore[no-any-return]


def _width(a: Tensor, t: Tensor) -> Tensor:
    """Where ±as − t (e^±s − 1), which falls by |t − a| s and about t s² / 2 at first, has fallen far enough."""
    gap = E.abs_(E.sub(t, a))
    curved = E.div(2.0 * _FALL, E.add(gap, E.sqrt(E.add(E.mul(gap, gap), E.mul(t, 4.0 * _FALL / 3.0)))))
    above = E.where(E.less(t, 8.0), E.log1p(E.div(2.0 * _FALL, t)), curved)
    below = E.where(E.less_equal(curved, 1.0), curved, E.div(E.add(t, _FALL), a))
    return E.where(E.greater_equal(t, a), above, below)  # type: ignore[no-any-return]


def _second(alpha: np.ndarray, y: np.ndarray) -> np.ndarray:
    shape = np.broadcast_shapes(alpha.shape, y.shape)
    return y if y.shape == shape else np.broadcast_to(y, shape).copy()


gamma_of: Op = elementwise(
    "gamma_of", _second, lambda m, alpha, y: y, lambda z, alpha, y: (slope(alpha, z), None), arity=2,
    promote="none", dtypes="f", domain=((0.5, 4.0), (0.5, 4.0)),
    doc="y, a gamma number drawn for alpha, which it has its derivative along.",
)  # fmt: skip


# --- Poisson ----------------------------------------------------------------------------------------------------------
def poisson(source: Source, rate: Tensor, count: Size) -> Tensor:
    """Poisson numbers; NaN unless rate ≥ 0. Below 10 by adding up probabilities until a uniform number is reached,
    else by W. Hörmann, "The transformed rejection method for generating Poisson random variables" (1993).
    """
    n = positions((count,))
    valid = _both(E.greater_equal(rate, 0.0), E.less(rate, math.inf))
    small = E.less(rate, 10.0)
    few = E.where(_both(small, valid), rate, 1.0)
    many = E.where(small, 10.0, rate)
    low = _added_up(source, n, few, E.exp(E.neg(few)), count, _both(small, valid))
    high = _poisson_ptrs(source, n, many, count, _both(E.logical_not(small), valid))
    made = E.where(small, low, high)
    return E.where(valid, made, E.where(E.equal(rate, math.inf), rate, math.nan))  # type: ignore[no-any-return]


def _added_up(
    source: Source, n: Tensor, rate: Tensor, none: Tensor, count: Size, wanted: Tensor, more: Any = 0.0
) -> Tensor:
    """The number of terms that add up to a uniform number: the first is `none`, the k-th is the one before it times
    rate / k, or times (rate / k) − more.
    """
    if nowhere(wanted):
        return everywhere(0.0, (count,))
    u = inside(words(n, EXTRA, source, 2)[0])

    def step(states: Sequence[Tensor], given: Sequence[Tensor]) -> Any:
        (k, p, total), (u, rate, *rest) = states, given
        k = E.add(k, 1.0)
        p = E.mul(p, E.sub(E.div(rate, k), rest[0]) if rest else E.div(rate, k))
        total = E.add(total, p)
        return (k, p, total), _both(E.greater(u, total), E.less(k, MOST))

    first = _spread(none, count)
    states = [everywhere(0.0, (count,)), first, first]
    given = [u, rate] if isinstance(more, float) else [u, rate, more]
    return until_done(step, _both(_spread(wanted, count), E.greater(u, none)), states, given)[0]


def _poisson_ptrs(source: Source, n: Tensor, rate: Tensor, count: Size, wanted: Tensor) -> Tensor:
    log = E.log(rate)
    b = E.add(E.mul(E.sqrt(rate), 2.53), 0.931)
    a = E.sub(E.mul(b, 0.02483), 0.059)
    inverse = E.add(E.div(1.1328, E.sub(b, 3.4)), 1.1239)
    quick = E.sub(0.9277, E.div(3.6224, E.sub(b, 2.0)))

    def step(states: Sequence[Tensor], given: Sequence[Tensor]) -> Any:
        (tries, _), (n, rate, log, b, a, inverse, quick, *own) = states, given
        u, v = (inside(w) for w in words(n, tries, own, 2))
        u = E.sub(u, 0.5)
        near = E.sub(0.5, E.abs_(u))
        k = E.floor(E.add(E.add(E.mul(E.add(E.div(E.mul(a, 2.0), near), b), u), rate), 0.43))
        at_once = _both(E.greater_equal(near, 0.07), E.less_equal(v, quick))
        never = _either(E.less(k, 0.0), _both(E.less(near, 0.013), E.greater(v, near)))
        left = E.log(E.div(E.mul(v, inverse), E.add(E.div(a, E.mul(near, near)), b)))
        right = E.sub(E.sub(E.mul(k, log), rate), lgamma(E.add(E.maximum(k, 0.0), 1.0)))
        taken = _either(at_once, _both(E.logical_not(never), E.less_equal(left, right)))
        return (E.add(tries, 1), k), E.logical_not(taken)

    first = [counts((count,)), everywhere(0.0, (count,))]
    given = [n, rate, log, b, a, inverse, quick, *source]
    return until_done(step, _spread(wanted, count), first, given)[1]


# --- binomial ---------------------------------------------------------------------------------------------------------
def binomial(source: Source, trials: Tensor, chance: Tensor, count: Size) -> Tensor:
    """How many of some trials succeed; NaN unless trials ≥ 0 and 0 ≤ chance ≤ 1. Where fewer than 10 are expected by
    adding up probabilities, else by W. Hörmann, "The generation of binomial random variates" (1993).
    """
    n = positions((count,))
    inside_unit = _both(E.greater_equal(chance, 0.0), E.less_equal(chance, 1.0))
    valid = _both(_both(E.greater_equal(trials, 0.0), E.less(trials, math.inf)), inside_unit)
    t, p = E.where(valid, trials, 0.0), E.where(valid, chance, 0.0)
    back = E.greater(p, 0.5)
    q = E.where(back, E.sub(1.0, p), p)
    small = E.less(E.mul(t, q), 10.0)
    odds = E.div(q, E.sub(1.0, q))
    few = E.where(small, t, 0.0)
    none = E.exp(E.mul(few, E.log1p(E.neg(q))))
    low = _added_up(source, n, E.mul(E.add(few, 1.0), odds), none, count, small, odds)
    high = _btrs(source, n, E.where(small, 100.0, t), E.where(small, 0.5, q), count, E.logical_not(small))
    k = E.where(small, E.minimum(low, t), high)
    k = E.where(back, E.sub(t, k), k)
    return E.where(valid, k, math.nan)  # type: ignore[no-any-return]


def _tail(k: Tensor) -> Tensor:
    """log k! without what Stirling's formula gives at k + 1."""
    k1 = E.add(k, 1.0)
    square = E.mul(k1, k1)
    far = E.div(E.sub(1.0 / 12.0, E.div(E.sub(1.0 / 360.0, E.div(1.0 / 1260.0, square)), square)), k1)
    formula = E.add(E.sub(E.mul(E.add(k, 0.5), E.log(k1)), k1), 0.5 * math.log(2.0 * math.pi))
    return E.where(E.less(k, 10.0), E.sub(lgamma(k1), formula), far)  # type: ignore[no-any-return]


def _btrs(source: Source, n: Tensor, t: Tensor, q: Tensor, count: Size, wanted: Tensor) -> Tensor:
    spread = E.sqrt(E.mul(E.mul(t, q), E.sub(1.0, q)))
    b = E.add(E.mul(spread, 2.53), 1.15)
    a = E.add(E.add(E.mul(b, 0.0248), -0.0873), E.mul(q, 0.01))
    centre = E.add(E.mul(t, q), 0.5)
    quick = E.sub(0.92, E.div(4.2, b))
    odds = E.div(q, E.sub(1.0, q))
    scale = E.mul(E.add(E.div(5.1, b), 2.83), spread)
    mode = E.floor(E.mul(E.add(t, 1.0), q))
    fixed = E.add(_tail(mode), _tail(E.sub(t, mode)))

    def step(states: Sequence[Tensor], given: Sequence[Tensor]) -> Any:
        (tries, _), (n, t, b, a, centre, quick, odds, scale, mode, fixed, *own) = states, given
        u, v = (inside(w) for w in words(n, tries, own, 2))
        u = E.sub(u, 0.5)
        near = E.sub(0.5, E.abs_(u))
        k = E.floor(E.add(E.mul(E.add(E.div(E.mul(a, 2.0), near), b), u), centre))
        at_once = _both(E.greater_equal(near, 0.07), E.less_equal(v, quick))
        possible = _both(E.greater_equal(k, 0.0), E.less_equal(k, t))
        k_ = E.where(possible, k, mode)
        left = E.log(E.div(E.mul(v, scale), E.add(E.div(a, E.mul(near, near)), b)))
        rest, of_mode = E.add(E.sub(t, k_), 1.0), E.add(E.sub(t, mode), 1.0)
        right = E.mul(E.add(mode, 0.5), E.log(E.div(E.add(mode, 1.0), E.mul(odds, of_mode))))
        right = E.add(right, E.mul(E.add(t, 1.0), E.log(E.div(of_mode, rest))))
        right = E.add(right, E.mul(E.add(k_, 0.5), E.log(E.div(E.mul(odds, rest), E.add(k_, 1.0)))))
        right = E.add(right, E.sub(fixed, E.add(_tail(k_), _tail(E.sub(t, k_)))))
        taken = _both(possible, _either(at_once, E.less_equal(left, right)))
        return (E.add(tries, 1), k_), E.logical_not(taken)

    first = [counts((count,)), everywhere(0.0, (count,))]
    given = [n, t, b, a, centre, quick, odds, scale, mode, fixed, *source]
    return until_done(step, _spread(wanted, count), first, given)[1]


# --- truncated normal -------------------------------------------------------------------------------------------------
def truncated(source: Source, low: Tensor, high: Tensor, count: Size) -> Tensor:
    """Standard normal numbers between bounds; NaN unless low < high. C. P. Robert, "Simulation of truncated normal
    variables" (1995): normal numbers until one is inside, uniform ones in short intervals, and exponential ones beyond
    a bound.
    """
    n = positions((count,))
    turned = E.less(high, 0.0)
    a, b = E.where(turned, E.neg(high), low), E.where(turned, E.neg(low), high)
    valid = E.less(a, b)
    zero_inside = E.less_equal(a, 0.0)
    direct = _both(zero_inside, E.greater(E.sub(b, a), math.sqrt(2.0 * math.pi)))
    start = E.where(_either(zero_inside, E.logical_not(valid)), 0.0, a)
    root = E.sqrt(E.add(E.mul(start, start), 4.0))
    rate = E.mul(E.add(start, root), 0.5)
    short = E.mul(E.div(1.0, rate), E.exp(E.add(E.mul(E.mul(start, E.sub(start, root)), 0.25), 0.5)))
    beyond = _both(E.logical_not(zero_inside), E.greater(E.sub(b, a), short))
    width = E.where(_either(direct, beyond), 0.0, E.sub(b, a))

    def step(states: Sequence[Tensor], given: Sequence[Tensor]) -> Any:
        (tries, _), (n, a, b, start, rate, width, direct, beyond, *own) = states, given
        bits = words(n, tries, own, 4)
        u, v = inside(bits[2]), E.log(inside(bits[3]))
        tail = E.sub(a, E.div(E.log(u), rate))
        flat = E.add(a, E.mul(width, u))
        x = E.where(direct, gaussian(bits[:2]), E.where(beyond, tail, flat))
        off = E.sub(x, rate)
        squares = E.where(beyond, E.mul(off, off), E.mul(E.sub(x, start), E.add(x, start)))
        within = _both(E.greater_equal(x, a), E.less_equal(x, b))
        taken = _both(within, _either(direct, E.less_equal(v, E.mul(squares, -0.5))))
        return (E.add(tries, 1), x), E.logical_not(taken)

    first = [counts((count,)), everywhere(0.0, (count,))]
    given = [n, a, b, start, rate, width, direct, beyond, *source]
    _, x = until_done(step, _spread(valid, count), first, given)
    return E.where(valid, E.where(turned, E.neg(x), x), math.nan)  # type: ignore[no-any-return]
