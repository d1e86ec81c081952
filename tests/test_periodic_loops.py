"""Loops whose states repeat end early: the same bits as step by step, for any counters, bounds and states."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowerings import Lowered, compiled, flat

import tracejit as tj
from tracejit.lower import periods

F32, F64, I8, I32, I64 = np.float32, np.float64, np.int8, np.int32, np.int64
EARLY = "ends early when its state repeats"
COUNTS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 63, 64, 65, 100, 257]


def early(f, *args):
    return EARLY in f.explain(*map(tj.constant, args))


def bits(results):
    return [(a.dtype.name, a.shape, a.tobytes()) for a in results]


def step_by_step(f, *args):
    """A traced function whose loops take every step."""
    known = periods.of
    periods.of = lambda n: None
    try:
        g = compiled(f)
        g(*args)
        assert EARLY not in g.explain(*args)
    finally:
        periods.of = known
    return g


class Both:
    """A function whose loop ends early, and the same one without that."""

    def __init__(self, f, *example):
        args = [tj.constant(a) for a in example]
        self.python, self.slow, self.fast = f, step_by_step(f, *args), compiled(f)
        self.fast(*args)
        assert EARLY in self.fast.explain(*args)

    def check(self, *args, python=False):
        args = [tj.constant(a) for a in args]
        got = bits(flat(self.fast(*args)))
        assert got == bits(flat(self.slow(*args))), [np.asarray(a) for a in args]
        if python:
            assert got == bits(flat(self.python(*args)))


# --- loops that repeat ------------------------------------------------------------------------------------------------
def newton(x, a, n):
    i = 0
    while i < n:
        x = x - (x * x - a) / (2.0 * x)
        i += 1
    return x, i


def through_range(x, n):
    for _ in range(n):
        x = tj.cos(x)
    return x


def constant_length(x):
    for _ in tj.range(1000):
        x = tj.sqrt(x + 1.0)
    return x


def kepler(mean, e, n):
    """E = M + e·sin E."""
    x = mean
    for _ in range(n):
        x = x - (x - e * tj.sin(x) - mean) / (1.0 - e * tj.cos(x))
    return x


def logistic(x, n):
    """3.83: a window of period 3."""
    i = 0
    while i < n:
        x = 3.83 * x * (1.0 - x)
        i += 1
    return x, i


def power_iteration(a, b, c, n):
    x, y = 1.0 + 0.0 * a, 0.5 + 0.0 * a
    for _ in range(n):
        u, v = a * x + b * y, b * x + c * y
        norm = tj.sqrt(u * u + v * v)
        x, y = u / norm, v / norm
    return x, y


def modular(x, n, m):
    seen = 0 * x
    for _ in range(n):
        x = (x * x + 1) % m
        if x % 3 == 0:
            seen += x
    return x, seen


def last_position(x, a, n):
    """What each step makes anew of its number, and what counts down beside it."""
    last, below = 0, 2 * n
    for i in range(n):
        x = 0.5 * (x + a / x)
        last = i * 3
        below -= 2
    return x, last, below


def with_a_break(x, tolerance, n):
    count = 0
    for _ in range(n):
        y = x - (x * x - 2.0) / (2.0 * x)
        if abs(y - x) < tolerance:
            break
        x = y
        count += 1
    return x, count


def with_tests(x, n):
    i = n
    while i > 0 and x > -2.0 and x < 2.0:
        x = x / (x * x - 1.7)
        i -= 3
    return x, i


def settled(x, n):
    """A flag, a sum of bools and an extreme beside the number."""
    high, low, steady, i = x, 0 * n, False, 0
    while i < n:
        y = tj.sin(2.5 * x)
        steady = steady or y == x
        if y < x:
            low += 1
        high = tj.maximum(high, y)
        x = y
        i += 1
    return x, high, low, steady, i


def several_types(x, n, k):
    y = tj.cast(x, tj.float32)
    i = 0
    while i < n:
        x = tj.sqrt(tj.cast(k, tj.float64) + x)
        y = y / 3.0
        k = (k * 5 + 3) % 101
        i += 1
    return x, y, k


def nested(x, n):
    i = 0
    total = 0 * n
    while i < n:
        j = 0
        while j < 40:
            x = 0.5 * (x + 3.0 / x)
            j += 1
        x = x + 1.0
        total += j
        i += 1
    return x, total


def elements(x, i, n):
    """A walk through an array that comes round."""
    s, k = i, 0
    while k < n:
        s = x[s] % 8
        k += 1
    return s


def checked(x, n):
    i = 0
    while i < n:
        x = 1.0 / (1.0 + x)
        assert x > 0.0, "not positive"
        i += 1
    return x


def condition_only(x, n):
    """What the condition alone reads is none of what the steps make of each other."""
    t, i = 0.0, 0
    while i < n and t < 4.0:
        t = x + 3.0
        x = tj.sqrt(x)
        i += 1
    return x, t, i


ROUND = np.array([3, 2, 7, 1, 5, 4, 6, 0])
CASES = {
    "newton": (newton, (F64(1.0), F64(2.0), I32(500))),
    "newton in float32": (newton, (F32(1.0), F32(2.0), I64(500))),
    "through a range": (through_range, (F64(0.3), I32(300))),
    "a constant length": (constant_length, (F64(0.3),)),
    "Kepler's equation": (kepler, (F64(1.2), F64(0.7), I32(200))),
    "logistic map": (logistic, (F64(0.31), I32(900))),
    "power iteration": (power_iteration, (F64(2.0), F64(0.3), F64(1.0), I32(400))),
    "modular": (modular, (I64(3), I32(700), I64(1009))),
    "modular in int32": (modular, (I32(3), I32(700), I32(1009))),
    "last position": (last_position, (F64(9.0), F64(2.0), I32(300))),
    "a break": (with_a_break, (F64(9.0), F64(1e-9), I32(300))),
    "a break that never comes": (with_a_break, (F64(9.0), F64(0.0), I32(300))),
    "tests": (with_tests, (F64(0.4), I32(1000))),
    "settled": (settled, (F64(0.4), I32(900))),
    "several types": (several_types, (F64(0.4), I32(900), I8(2))),
    "nested": (nested, (F64(5.0), I32(9))),
    "elements": (elements, (ROUND, I64(2), I32(300))),
    "condition only": (condition_only, (F64(1.0), I32(300))),
    "condition only, later": (condition_only, (F64(0.5), I32(300))),
    "checked": (checked, (F64(5.0), I32(300))),
}


@pytest.mark.parametrize("name", CASES)
def test_all_lowerings_agree(name):
    f, args = CASES[name]
    want = bits(flat(step_by_step(f, *map(tj.constant, args))(*map(tj.constant, args))))
    exact = "cos" not in name and name not in ("Kepler's equation", "through a range", "settled")  # library functions
    for way, got in Lowered(f).results(*map(tj.constant, args)):
        if way == "native code" or exact:
            assert bits(got) == want, way
    assert early(tj.function(f), *args)


@pytest.mark.parametrize("name", [k for k, (f, args) in CASES.items() if "n" in f.__code__.co_varnames[: len(args)]])
def test_any_number_of_steps(name):
    f, args = CASES[name]
    at = f.__code__.co_varnames.index("n")
    both = Both(f, *args)
    for n in [*COUNTS, -1]:
        both.check(*[type(a)(n) if i == at else a for i, a in enumerate(args)])


@pytest.mark.parametrize("x", [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -1e308])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_special_values(x, dtype):
    """NaN equals itself here, and zeros of two signs differ: -x / 1.5 goes to and fro between them."""

    def f(x, n):
        y = x
        for _ in range(n):
            x = -x / 1.5
            y = 1.0 / (x + y)
        return x, y

    both = Both(f, dtype(1.0), I32(1))
    with np.errstate(all="ignore"):
        for n in (*COUNTS, 3001, 3002):
            both.check(dtype(x), I32(n), python=n < 10 and x == x)


# --- counters ---------------------------------------------------------------------------------------------------------
def up_by_three(x, i, n):
    while i < n:
        x = (x * x + 1) % 23
        i = i + 3
    return x, i


def up_to_and_with(x, i, n):
    while n >= i:
        x = (x * x + 1) % 7
        i = i + 5
    return x, i


def down_by_seven(x, i, n):
    while i > n:
        x = (x * x + 1) % 23
        i = i - 7
    return x, i


def down_to_and_with(x, i, n):
    while not i < n and n <= i:
        x = (x * x + 1) % 7
        i = i - 3
    return x, i


def up_until_equal(x, i, n):
    while i != n:
        x = (x * x + 1) % 7
        i = i + 1
    return x, i


def down_until_equal(x, i, n):
    while n != i:
        x = (x * x + 1) % 23
        i = i - 1
    return x, i


def two_bounds(x, i, n):
    j = n + 0
    while i < n and j > 3:
        x = (x * x + 1) % 7
        i, j = i + 1, j - 2
    return x, i, j


COUNTERS = [up_by_three, up_to_and_with, down_by_seven, down_to_and_with, up_until_equal, down_until_equal, two_bounds]


@pytest.mark.parametrize("f", COUNTERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [I8, np.uint8, np.int16], ids=lambda d: np.dtype(d).name)
def test_counters_that_wrap_around(f, dtype):
    """All pairs of numbers near the ends and the middle of a type. Loops that never end are left out."""
    info = np.iinfo(dtype)
    half = (info.min + info.max) // 2
    near = [info.min + k for k in (0, 1, 2)] + [half + k for k in (-1, 0, 1, 30)] + [info.max - k for k in (9, 1, 0)]
    both = Both(f, I64(1), dtype(1), dtype(5))
    for first in near:
        for last in near:
            if _ends(f, last, info):
                for x in (5, 6):
                    both.check(I64(x), dtype(first), dtype(last))


def _ends(f, n, info):
    """Whether any counter of this type leaves the loop."""
    return not (f is up_to_and_with and n == info.max) and not (f is down_to_and_with and n == info.min)


@given(st.integers(0, 22), st.integers(-300, 300), st.integers(-300, 300), st.sampled_from(COUNTERS[:4]))
@settings(max_examples=150, deadline=None)
def test_counters_with_any_bounds(x, i, n, f):
    _counted(f).check(I64(x), I32(i), I32(n), python=True)


_made: dict = {}


def _counted(f):
    if f not in _made:
        _made[f] = Both(f, I64(1), I32(1), I32(5))
    return _made[f]


@pytest.mark.parametrize("dtype", [I32, I64])
def test_the_last_numbers_of_a_type(dtype):
    most = np.iinfo(dtype).max
    both = Both(up_to_and_with, I64(1), dtype(1), dtype(5))
    for back in (1, 4, 5, 6, 99, 100, 1001):
        both.check(I64(7), dtype(most - 2000), dtype(most - back - 5))
    whole = Both(up_until_equal, I64(1), dtype(1), dtype(5))
    whole.check(I64(7), dtype(most - 300), dtype(np.iinfo(dtype).min + 300))


def test_a_quintillion_of_steps():
    """2**62 steps: only what is left out makes this end."""
    f = compiled(modular)
    x, seen = f(tj.constant(I64(3)), tj.constant(I64(2**62)), tj.constant(I64(11)))
    some = [int(f(*map(tj.constant, (I64(3), I64(n), I64(11))))[0]) for n in range(8, 8 + 60)]
    period = next(p for p in range(1, 30) if some[p:] == some[:-p])
    assert int(x) == some[(2**62 - 8) % period]
    y, n, total = 3, 0, 0
    sums = [0]
    while n < 8 + period:
        y, n = (y * y + 1) % 11, n + 1
        total += y if y % 3 == 0 else 0
        sums.append(total)
    times, rest = divmod(2**62 - 8, period)
    want = sums[8 + rest] + times * (sums[8 + period] - sums[8])
    assert int(seen) == (want + 2**63) % 2**64 - 2**63


# --- random maps ------------------------------------------------------------------------------------------------------
def integer_map(x, y, a, b, m, n):
    count, i = 0 * y, 0
    while i < n:
        x, y = (x * a + y) % m, y * y + b - x
        if x > y:
            count += x - 2
        i += 1
    return x, y, count, i


def float_map(x, y, a, b, c, n):
    inside = 0 * n
    for _ in range(n):
        x, y = (a * x + b * y + c) / (1.0 + tj.abs(x)), b * x - y * y
        if y > x:
            inside -= 3
    return x, y, inside


@pytest.fixture(scope="module")
def maps():
    kinds = I8, np.uint16, I32, I64
    found = {d: Both(integer_map, *[d(3)] * 5, I32(3)) for d in kinds}
    return found | {d: Both(float_map, *[d(0.5)] * 5, I32(3)) for d in (F32, F64)}


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_random_integer_maps(maps, data):
    dtype = data.draw(st.sampled_from([I8, np.uint16, I32, I64]))
    info = np.iinfo(dtype)
    x, y, a, b = (dtype(data.draw(st.integers(int(info.min), int(info.max)))) for _ in range(4))
    m = dtype(data.draw(st.integers(1, min(int(info.max), 40))))
    n = data.draw(st.one_of(st.integers(0, 70), st.integers(0, 5000), st.sampled_from([2**k for k in range(13)])))
    maps[dtype].check(x, y, a, b, m, I32(n))


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_random_float_maps(maps, data):
    dtype = data.draw(st.sampled_from([F32, F64]))
    number = st.one_of(st.floats(-1.5, 1.5), st.floats(width=32), st.sampled_from([0.0, -0.0, 1.0, -1.0]))
    with np.errstate(all="ignore"):
        given_ = [dtype(data.draw(number)) for _ in range(5)]
    n = data.draw(st.one_of(st.integers(0, 70), st.integers(0, 5000), st.sampled_from([2**k for k in range(13)])))
    maps[dtype].check(*given_, I32(n))


# --- loops that take every step ---------------------------------------------------------------------------------------
def reads_its_number(x, n):
    for i in range(n):
        x = x / (1.0 + tj.cast(i, tj.float64))
    return x


def moving(x, n):
    a, i = 2.0, 0
    while i < n:
        x = x - (x * x - a) / (2.0 * x)
        a = a + 0.001
        i += 1
    return x


def unbounded(x, n):
    while x < tj.cast(n, tj.float64):
        x = x + tj.sqrt(x)
    return x


def a_few_steps(x, n):
    for _ in range(20):
        x = tj.sqrt(x + tj.cast(n, tj.float64))
    return x


def a_moving_bound(x, n):
    i = 0
    while i < n:
        x = tj.sqrt(x + 1.0)
        n = n - 1
        i += 1
    return x


def stacked(x, n):
    out = tj.TensorArray(tj.float64, size=100)
    i = 0
    while i < n:
        x = tj.sqrt(x + 1.0)
        out = out.write(i, x)
        i += 1
    return out.stack()


def checks_its_number(x, n):
    i = 0
    while i < n:
        x = tj.sqrt(x + 1.0)
        assert i < 50, "many"
        i += 1
    return x


def printed(x, n):
    for _ in range(n):
        x = tj.sqrt(x + 1.0)
        tj.print("x", x)
    return x


@pytest.mark.parametrize(
    "f",
    [reads_its_number, moving, unbounded, a_few_steps, a_moving_bound, stacked, checks_its_number, printed],
    ids=lambda f: f.__name__,
)
def test_loops_that_cannot_repeat_are_left_as_they_are(f, capfd):
    args = F64(0.7), I32(40)
    traced = compiled(f)
    for got, want in zip(flat(traced(*map(tj.constant, args))), flat(f(*map(tj.constant, args))), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)
    assert not early(traced, *args)
    if f is checks_its_number:
        with pytest.raises(AssertionError, match="many"):
            traced(tj.constant(0.7), tj.constant(60))
    if f is printed:
        assert "".join(capfd.readouterr()).count("x 1.") == 80


def test_a_check_that_fails_late_fails():
    """The step in which the state leaves is taken, as no earlier one repeats."""

    @tj.function
    def f(k, n):
        i = 0
        while i < n:
            k = (k * 3) % 65537
            assert k != 2, "two"
            i += 1
        return k

    assert early(f, I64(1), I32(100))
    with pytest.raises(AssertionError, match="two"):
        f(tj.constant(I64(1)), tj.constant(I32(70000)))
    assert int(f(tj.constant(I64(0)), tj.constant(I32(2_000_000_000)))) == 0


def test_gradients_take_every_step():
    def gradient(x, a, n):
        with tj.GradientTape() as tape:
            tape.watch(a)
            y, _ = newton(x, a, n)
        return y, tape.gradient(y, a)

    args = tj.constant(1.0, tj.float64), tj.constant(2.0, tj.float64), tj.constant(50)
    y, g = tj.function(gradient)(*args)
    assert float(y) == float(tj.function(newton)(*args)[0]) and abs(float(g) - 0.5 / 2**0.5) < 1e-15


def test_the_source_says_the_loop_as_it_is():
    args = [tj.constant(a) for a in CASES["newton"][1]]
    text = tj.function(newton).source(*args)
    assert "while i <" in text and "i += " in text
