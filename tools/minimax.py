"""Minimax polynomials and rational functions by Remez exchange; prints the coefficients that lower/ uses.

    python tools/minimax.py            every function
    python tools/minimax.py exp log    some

Needs mpmath. Every approximation minimises the relative error of the function that is finally returned.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import mpmath as mp

mp.mp.dps = 50
Real = mp.mpf
Func = Callable[[Real], Real]


def chebyshev(a: Real, b: Real, n: int) -> list[Real]:
    return [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * k / (n - 1)) for k in range(n)]


def extrema(e: Sequence[Real], n: int) -> list[int] | None:
    """Indices of `n` alternating extrema, the smallest ones dropped."""
    out, cur = [], 0
    for k in range(1, len(e)):
        if (e[k] > 0) != (e[cur] > 0):
            out.append(cur)
            cur = k
        elif abs(e[k]) >= abs(e[cur]):
            cur = k
    out.append(cur)
    while len(out) > n:
        i = min(range(len(out)), key=lambda j: abs(e[out[j]]))
        if len(out) == n + 1 or i in (0, len(out) - 1):
            out.pop(0 if abs(e[out[0]]) < abs(e[out[-1]]) else -1)
        else:
            j = i if abs(e[out[i - 1]]) > abs(e[out[i + 1]]) else i - 1
            del out[j : j + 2]
    return out if len(out) == n else None


class Fit(NamedTuple):
    p: list[Real]  # lowest power first
    q: list[Real]  # without its constant term, which is 1
    error: Real


def value(p: Sequence[Real], q: Sequence[Real], x: Real) -> Real:
    return mp.polyval([*reversed(p)], x) / (mp.polyval([*reversed(q), 1], x) if q else 1)


def start(
    fs: Sequence[Real], ws: Sequence[Real], pts: Sequence[Real], np: int, nq: int
) -> tuple[list[Real], list[Real]]:
    """A least-squares fit, made linear by the last denominator (Loeb)."""
    q: list[Real] = []
    p: list[Real] = []
    for _ in range(6):
        m, y = mp.matrix(len(pts), np + nq), mp.matrix(len(pts), 1)
        for i, (x, fx, wx) in enumerate(zip(pts, fs, ws, strict=True)):
            k = wx / (mp.polyval([*reversed(q), 1], x) if q else 1)
            for j, v in enumerate([x**j for j in range(np)] + [-fx * x**j for j in range(1, nq + 1)]):
                m[i, j] = v * k
            y[i] = fx * k
        c = mp.qr_solve(m, y)[0]
        p, q = [c[j] for j in range(np)], [c[np + j] for j in range(nq)]
    return p, q


def fit(f: Func, degree: int, qdegree: int, a: Real, b: Real, w: Func, grid: int = 1500) -> Fit:
    """P/Q closest to f on [a, b] in the weight w."""
    np, nq = degree + 1, qdegree
    n = np + nq + 1
    pts = chebyshev(a, b, grid)
    if nq:  # the extrema of such fits crowd towards zero
        pts = [a + (b - a) * ((x - a) / (b - a)) ** 2 for x in pts]
    fs, ws = [f(x) for x in pts], [w(x) for x in pts]
    xs = chebyshev(a, b, n)
    err = mp.mpf(0)
    best: Fit | None = None
    if nq:
        p, q = start(fs[::8], ws[::8], pts[::8], np, nq)
        e = [(value(p, q, x) - fx) * wx for x, fx, wx in zip(pts, fs, ws, strict=True)]
        at = extrema(e, n)
        if at is None:
            return Fit(p, q, max(map(abs, e)))
        best = Fit(p, q, max(map(abs, e)))
        xs, err = [pts[k] for k in at], mp.sign(e[at[0]]) * sum(abs(e[k]) for k in at) / n
    for _ in range(25):
        for _ in range(10 if nq else 1):
            m, y = mp.matrix(n, n), mp.matrix(n, 1)
            for i, x in enumerate(xs):
                s = (-1) ** i / w(x)
                g = f(x) + s * err
                row = [x**k for k in range(np)] + [-g * x**k for k in range(1, nq + 1)] + [-s]
                for j, v in enumerate(row):
                    m[i, j] = v
                y[i] = f(x)
            c = mp.lu_solve(m, y)
            if abs(c[n - 1] - err) < abs(err) * mp.mpf(10) ** -8:
                break
            err = c[n - 1]
        p, q = [c[j] for j in range(np)], [c[np + j] for j in range(nq)]
        e = [(value(p, q, x) - fx) * wx for x, fx, wx in zip(pts, fs, ws, strict=True)]
        worst = max(map(abs, e))
        if best is None or worst < best.error:
            best = Fit(p, q, worst)
        at = extrema(e, n)
        if at is None or worst < min(abs(e[k]) for k in at) * mp.mpf("1.005"):
            break
        xs = [pts[k] for k in at]
    assert best is not None
    return best


class Task(NamedTuple):
    f: Func
    a: float | Real
    b: float | Real
    degree: int
    weight: Func | None = None  # of the absolute error of f; by default relative
    q: int = 0


def solve(t: Task) -> Fit:
    return fit(t.f, t.degree, t.q, mp.mpf(t.a), mp.mpf(t.b), t.weight or (lambda x: 1 / t.f(x)))


def odd(f: Func, at_zero: float | Real) -> Func:
    """f(x)/x as a function of x*x."""
    return lambda z: f(mp.sqrt(z)) / mp.sqrt(z) if z > mp.mpf(10) ** -30 else mp.mpf(at_zero)


def tail(f: Func, drop: int) -> Func:
    """(f(x) - its first `drop` Taylor terms) / x**drop."""
    taylor = mp.taylor(f, 0, drop + 12)

    def g(x: Real) -> Real:
        if abs(x) < mp.mpf("0.001"):
            return mp.polyval(taylor[drop:][::-1], x)
        return (f(x) - mp.polyval(taylor[:drop][::-1], x)) / x**drop

    return g


LN2 = mp.log(2)
EXP = (-LN2 / 2 * mp.mpf("1.002"), LN2 / 2 * mp.mpf("1.002"))
EXP_CELL = (-LN2 / 32 * mp.mpf("1.002"), LN2 / 32 * mp.mpf("1.002"))
LOG = (mp.mpf(-0.25), mp.mpf(0.5))
QUARTER = (mp.mpf(0), (mp.pi / 4) ** 2 * mp.mpf("1.02"))


def _exp(degree: int, low: Real = EXP[0], high: Real = EXP[1]) -> Task:
    f = tail(mp.exp, 2)
    return Task(f, low, high, degree, lambda x: max(abs(x * x / mp.expm1(x)) if x else 0, mp.mpf("1e-4")))


def _exp2(degree: int) -> Task:
    f = tail(lambda x: mp.power(2, x), 1)
    return Task(f, -0.5005, 0.5005, degree, lambda x: max(abs(x), mp.mpf("1e-4")))


def _log(degree: int) -> Task:
    f = tail(lambda x: mp.log(1 + x), 2)
    return Task(f, *LOG, degree, lambda x: max(abs(x * x / mp.log(1 + x)) if x else 0, mp.mpf("1e-4")))


def _log_cell(degree: int) -> Task:
    """log(1+r) = r + r*r*P(r) where lower/celltables.py has a place for the rest of the number."""
    f = tail(lambda x: mp.log(1 + x), 2)
    return Task(f, -0.03126, 0.06251, degree, lambda x: max(abs(x * x / mp.log(1 + x)) if x else 0, mp.mpf("1e-4")))


def _atanh(degree: int) -> Task:
    """log((1+s)/(1-s)) = 2s + s*z*P(z), z = s*s."""

    def f(z: Real) -> Real:
        return mp.mpf(2) / 3 + z * 2 / 5 if z < mp.mpf(10) ** -18 else (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z

    return Task(f, 0, mp.mpf("0.0401"), degree, lambda z: max(z, mp.mpf("1e-8")))


def _atanh_near(degree: int) -> Task:
    """atanh(s) = s + s*z*P(z), z = s*s, |s| <= 0.226."""
    return Task(tail_even(mp.atanh, 3), 0, mp.mpf("0.226") ** 2, degree, lambda z: max(z, mp.mpf("1e-8")))


def _sin(degree: int) -> Task:
    f = tail_even(mp.sin, 3)
    return Task(f, *QUARTER, degree, lambda z: max(z, mp.mpf("1e-6")))


def _sin_half(degree: int) -> Task:
    """sin(r) = r + r*z*P(z), z = r*r, |r| <= pi/2."""

    def weight(z: Real) -> Real:
        r = mp.sqrt(z)
        return max(r * z / mp.sin(r) if z else 0, mp.mpf("1e-6"))

    return Task(tail_even(mp.sin, 3), 0, (mp.pi / 2) ** 2 * mp.mpf("1.0002"), degree, weight)


def _cos(degree: int) -> Task:
    f = tail_even(mp.cos, 4)
    return Task(f, *QUARTER, degree, lambda z: max(z * z, mp.mpf("1e-6")))


def tail_even(f: Func, drop: int) -> Func:
    """As `tail`, for an odd or even function, as a function of x*x."""
    taylor = mp.taylor(f, 0, drop + 16)

    def g(z: Real) -> Real:
        x = mp.sqrt(z)
        if z < mp.mpf("1e-5"):
            return mp.polyval(taylor[drop::2][::-1], z)
        return (f(x) - mp.polyval(taylor[:drop][::-1], x)) / x**drop

    return g


def _odd1(f: Func, top: float | Real, degree: int) -> Task:
    """f(x) = x + x*z*P(z)."""
    return Task(tail_even(f, 3), 0, top, degree, lambda z: max(z, mp.mpf("1e-5")))


def _erf_small(top: float, degree: int) -> Task:
    """erf(x) = x*P(z) on [0, top]."""
    return Task(odd(mp.erf, 2 / mp.sqrt(mp.pi)), 0, mp.mpf(top) ** 2, degree)


def _erf_far(low: float, top: float, degree: int) -> Task:
    """erf(x) = 1 - exp(P(x)) from there to where it rounds to 1."""
    return Task(lambda x: mp.log(mp.erfc(x)), low, top, degree, mp.erfc)


def _erfcx(center: float, top: float, degree: int) -> Task:
    """(x+c)*exp(x*x)*erfc(x) = P(t), t = (x-c)/(x+c), on [0.5, top]."""
    c = mp.mpf(center)

    def f(t: Real) -> Real:
        x = c * (1 + t) / (1 - t)
        return (x + c) * mp.exp(x * x) * mp.erfc(x)

    return Task(f, (mp.mpf("0.49") - c) / (mp.mpf("0.49") + c), (top - c) / (top + c), degree)


def _erf_cell(place: Real, reach: Real, degree: int) -> Task:
    """(erf(place + d) - erf(place)) / d for |d| <= reach, that added to erf(place) rounded."""

    def f(d: Real) -> Real:
        if abs(d) < mp.mpf("1e-12"):
            return 2 / mp.sqrt(mp.pi) * mp.exp(-place * place)
        return (mp.erf(place + d) - mp.erf(place)) / d

    def weight(d: Real) -> Real:
        return max(abs(d), mp.mpf("1e-6")) / mp.erf(place + d) if place else 1 / f(d)

    return Task(f, -reach if place else 0, reach, degree, weight)


def erfcx(x: Real) -> Real:
    return mp.exp(x * x) * mp.erfc(x)


def _erfcx_cell(place: Real, low: Real, high: Real, degree: int) -> Task:
    """(erfcx(place + d) - erfcx(place)) / d for low <= d <= high, that added to erfcx(place) rounded."""

    def f(d: Real) -> Real:
        if abs(d) < mp.mpf("1e-12"):
            return 2 * place * erfcx(place) - 2 / mp.sqrt(mp.pi)
        return (erfcx(place + d) - erfcx(place)) / d

    return Task(f, low, high, degree, lambda d: max(abs(d), mp.mpf("1e-6")) / erfcx(place + d))


def _log_table(degree: int) -> Task:
    """log(1+r) = r - r*r/2 - r*r*r/2*P(r) for the interval of one table entry."""
    return Task(tail(lambda x: -2 * mp.log(1 + x), 3), -0.0626, 0.0626, degree, lambda x: mp.mpf(1))


def _log_table_short(degree: int) -> Task:
    """log(1+r) = r + r*r*P(r) there."""
    return Task(tail(lambda x: mp.log(1 + x), 2), -0.0626, 0.0626, degree, lambda x: mp.mpf(1))


TASKS: dict[str, Callable[[], Task]] = {
    "exp float": lambda: _exp(4),
    "exp double": lambda: _exp(9),
    "exp_up float": lambda: _exp(4, mp.mpf(-0.002), LN2 * mp.mpf("1.002")),
    "exp_up double": lambda: _exp(9, mp.mpf(-0.002), LN2 * mp.mpf("1.002")),
    "exp_cell float": lambda: _exp(1, *EXP_CELL),
    "exp_cell double": lambda: _exp(4, *EXP_CELL),
    "exp_cell_up double": lambda: _exp(5, mp.mpf("-0.0001"), 2 * EXP_CELL[1]),
    "exp2 float": lambda: _exp2(5),
    "exp2 double": lambda: _exp2(10),
    "log float": lambda: _log(7),
    "log double": lambda: _atanh(6),
    "log_cell float": lambda: _log_cell(3),
    "atanh float": lambda: _atanh_near(2),
    "atanh double": lambda: _atanh_near(7),
    "pow float": lambda: _log_table_short(5),
    "pow double": lambda: _log_table(10),
    "sin float": lambda: _sin(2),
    "sin double": lambda: _sin(5),
    "sin_half float": lambda: _sin_half(3),
    "cos float": lambda: _cos(2),
    "cos double": lambda: _cos(5),
    "asin float": lambda: _odd1(mp.asin, 0.25, 4),
    "asin double": lambda: _odd1(mp.asin, 0.25, 11),
    "atan float": lambda: _odd1(mp.atan, 1, 7),
    "atan double": lambda: _odd1(mp.atan, 1, 19),
    "erf float": lambda: _erf_small(0.875, 5),
    "erf double": lambda: _erf_small(1.0, 11),
    "erf_far float": lambda: _erf_far(0.875, 3.925, 6),
    "erf_far double": lambda: _erf_far(1.0, 5.93, 17),
    "erfcx float": lambda: _erfcx(2.5, 10.1, 8),
    "erfcx double": lambda: _erfcx(3, 27.3, 20),
}


ERF_CELLS = {"erf_cells float": (mp.mpf(67) / 256, 4), "erf_cells double": (mp.mpf(3249) / 8192, 11)}


def digits(c: Real, name: str) -> str:
    """As many digits as the format needs."""
    return repr(float(c)) if name.endswith("double") else f"{float(c):.9g}"


def print_cells(name: str, step: Real, degree: int) -> None:
    """For each power, the highest first, the coefficients of 16 places that are `step` apart."""
    fits = [solve(_erf_cell(i * step, step / 2, degree)) for i in range(16)]
    print(f"{name}: error 2**{float(mp.log(max(r.error for r in fits), 2)):.2f}")
    rows = [mp.erf(i * step) for i in range(16)], *zip(*[r.p for r in fits], strict=True)
    for row in reversed(rows):
        print("    (" + ", ".join(digits(c, name) for c in row) + ")", flush=True)


def print_erfcx_cells(name: str, degree: int) -> None:
    """erfcx by the exponent of 1 + a and its next two bits: the places, then the coefficients as above.

    16 entries, in the order of these four bits, of which the last two are not used; the first place is 0 itself."""
    edges = [mp.mpf(m) * 2**e for e in range(4) for m in (1, 1.25, 1.5, 1.75)][:15]
    cells = [*itertools.pairwise(edges)]
    places = [mp.mpf(0), *[(a + b) / 2 - 1 for a, b in cells[1:]]]
    fits = [
        solve(_erfcx_cell(p, a - 1 - p, b - 1 - p, degree)) for p, (a, b) in zip(places, cells, strict=True)
    ]
    print(f"{name}: error 2**{float(mp.log(max(r.error for r in fits), 2)):.2f}")
    for row in places, *reversed([[erfcx(p) for p in places], *zip(*[r.p for r in fits], strict=True)]):
        full = [*row, 0, 0]
        print("    (" + ", ".join(digits(c, name) for c in [*full[4:], *full[:4]]) + ")", flush=True)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("names", nargs="*", help="first words of the task names; none: all")
    wanted = ap.parse_args().names
    for name, (step, degree) in ERF_CELLS.items():
        if not wanted or name.split()[0] in wanted:
            print_cells(name, step, degree)
    if not wanted or "erfcx_cells" in wanted:
        print_erfcx_cells("erfcx_cells float", 5)
    for name, make in TASKS.items():
        if wanted and name.split()[0] not in wanted:
            continue
        task = make()
        r = solve(task)
        print(f"{name}: error 2**{float(mp.log(r.error, 2)):.2f}")
        for part in (r.p, [mp.mpf(1), *r.q] if r.q else []):
            if part:
                print("    (" + ", ".join(digits(c, name) for c in reversed(part)) + ")", flush=True)


if __name__ == "__main__":
    main()
