"""Cases of the operations' table: special functions."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.special as sp
from op_case import BINARY, POS, TERNARY, UNARY, Case

import tracejit as tj
from tracejit.ops import beta, gamma, incomplete, numeric

_SOME = [*BINARY[:6], BINARY[-2]]


def cases() -> Iterator[Case]:
    def case(name: str, reference: Any, *domains: Any, shapes: Any = UNARY, **more: Any) -> Case:
        return Case(name, operator.attrgetter(name)(tj), reference, shapes, "f", domains or ((-2.0, 2.0),), **more)

    yield case("math.lgamma", sp.gammaln, (0.2, 6.0))
    yield Case("lgamma below 0", tj.math.lgamma, sp.gammaln, UNARY[:4], "f", ((-0.9, -0.1),), factor=2)
    yield Case("lgamma of large numbers", tj.math.lgamma, sp.gammaln, UNARY[:2], "f", ((7.0, 30.0),), factor=2)
    yield case("math.digamma", sp.digamma, (0.2, 6.0), factor=2)
    yield Case("digamma below 0", tj.math.digamma, sp.digamma, UNARY[:4], "f", ((-0.7, -0.3),), factor=3)
    yield case("math.erfcinv", sp.erfcinv, (0.1, 1.9))
    for order in "01":
        for letter, domain in (("i", (-3.0, 3.0)), ("k", POS), ("j", (-12.0, 12.0)), ("y", (0.3, 12.0))):
            name = f"bessel_{letter}{order}"
            place = "math" if letter == "i" else "math.special"
            yield case(f"{place}.{name}", getattr(sp, letter + order), domain, factor=2)
            if letter in "ik":
                yield case(f"{place}.{name}e", getattr(sp, f"{letter}{order}e"), domain, factor=2)
    yield case("math.special.dawsn", sp.dawsn, (-4.0, 4.0), factor=2)
    yield case("math.special.expint", sp.expi, (0.5, 6.0), factor=2)
    yield Case("expint below 0", tj.math.special.expint, sp.expi, UNARY[:4], "f", ((-6.0, -0.2),), factor=2)
    yield case("math.special.fresnel_sin", lambda x: sp.fresnel(x)[0], (-3.0, 3.0), factor=2)
    yield case("math.special.fresnel_cos", lambda x: sp.fresnel(x)[1], (-3.0, 3.0), factor=2)
    yield case("math.special.spence", sp.spence, (0.1, 4.0), factor=2)
    yield case("math.reciprocal_no_nan", lambda x: np.where(x == 0, 0, 1 / np.where(x == 0, 1, x)), POS)
    yield Case("cbrt", numeric.cbrt, np.cbrt, UNARY, domains=(POS,))
    yield from _of_several()


def _of_several() -> Iterator[Case]:
    def case(name: str, f: Any, reference: Any, *domains: Any, shapes: Any = BINARY, **more: Any) -> Case:
        return Case(name, f, reference, shapes, "f", domains, **more)

    m = tj.math
    yield case("zeta", lambda q: m.zeta(2.5, q), lambda q: sp.zeta(2.5, q), (0.3, 5.0), shapes=UNARY, factor=2)
    yield case("zeta of two", m.zeta, sp.zeta, (1.5, 8.0), (0.5, 20.0), shapes=_SOME, factor=5)
    yield case(
        "zeta_grad_x", lambda q: gamma.zeta_grad_x(2.5, q), lambda q: _along(sp.zeta, 0, 2.5, q), (0.3, 5.0),
        shapes=UNARY[:4], factor=1e4,
    )  # fmt: skip
    yield case(
        "polygamma", lambda x: m.polygamma(2, x), lambda x: sp.polygamma(2, x), (0.7, 5.0), shapes=UNARY, factor=5
    )
    yield case(
        "polygamma of both", m.polygamma, lambda n, x: sp.polygamma(np.asarray(n, int), x), (1.0, 1.0), (0.7, 5.0),
        shapes=BINARY[:4], differentiable=False, factor=5,
    )  # fmt: skip
    yield case("igamma", m.igamma, sp.gammainc, (0.3, 4.0), (0.2, 5.0), factor=3)
    yield case("igammac", m.igammac, sp.gammaincc, (0.3, 4.0), (0.2, 5.0), factor=3)
    yield case(
        "igamma_grad_a", lambda x: incomplete.igamma_grad_a(1.5, x), lambda x: _along(sp.gammainc, 0, 1.5, x),
        (0.2, 5.0),
        shapes=UNARY[:4], factor=1e4,
    )  # fmt: skip
    shape = (0.3, 4.0)
    yield case("betainc", m.betainc, sp.betainc, shape, shape, (0.1, 0.9), shapes=TERNARY, factor=3)
    yield case(
        "betainc along x", lambda x: m.betainc(2.0, 3.5, x), lambda x: sp.betainc(2.0, 3.5, x), (0.1, 0.9),
        shapes=UNARY, factor=3,
    )  # fmt: skip
    for i, f in enumerate((beta.betainc_grad_a, beta.betainc_grad_b)):
        yield case(
            f.name, lambda x, f=f: f(2.0, 3.5, x), lambda x, i=i: _along(sp.betainc, i, 2.0, 3.5, x), (0.1, 0.9),
            shapes=UNARY[:4], factor=1e4,
        )  # fmt: skip
    yield from _slopes()
    yield case("betaln", m.special.betaln, sp.betaln, (0.3, 12.0), (0.3, 12.0), factor=3)
    yield case(
        "lbeta", m.lbeta, lambda x: np.sum(sp.gammaln(x), -1) - sp.gammaln(np.sum(x, -1)), (0.5, 3.0),
        shapes=[[(3,)], [(4, 2)], [(2, 0)], [(0, 3)], [(2, 3, 1)]], factor=5,
    )  # fmt: skip
    yield case("nextafter", m.nextafter, lambda a, b: a + 0 * b, (-2.0, 2.0), (-2.0, 2.0), differentiable=False)
    yield case("hypot", numeric.hypot, np.hypot, (0.2, 3.0), (-3.0, -0.2), factor=2)


def _slopes() -> Iterator[Case]:
    """The derivatives along parameters of higher orders."""
    for f, function, name in (
        (
            lambda x: incomplete.igamma_slope(1.5, x, order=2), lambda x: _along_twice(sp.gammainc, 0, 0, 1.5, x),
            "igamma",
        ),
        (lambda x: gamma.zeta_slope(x, 0.7, order=2), lambda x: _along_twice(sp.zeta, 0, 0, x, 0.7), "zeta"),
        (
            lambda x: beta.betainc_slope(2.0, 3.5, x, orders=(1, 1)),
            lambda x: _along_twice(sp.betainc, 0, 1, 2.0, 3.5, x), "betainc",
        ),
    ):  # fmt: skip
        domain = (0.1, 0.9) if name == "betainc" else (1.3, 4.0)
        yield Case(f"{name}_slope", f, function, UNARY[:4], "f", (domain,), factor=1e6)


def _along_twice(f: Any, i: int, k: int, *x: Any) -> Any:
    return _along(lambda *at: _along(f, i, *at), k, *x)


def _along(f: Any, i: int, *x: Any) -> Any:
    """The derivative of a function of SciPy's along its i-th operand, to eight digits."""
    h = 1e-3
    at = [np.asarray(v, float) for v in x]
    ends = [f(*at[:i], at[i] + k * h, *at[i + 1 :]) for k in (-2, -1, 1, 2)]
    return (ends[0] - 8 * ends[1] + 8 * ends[2] - ends[3]) / (12 * h)
