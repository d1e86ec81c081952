"""Python's numbers in branches and loops that depend on tensors: integers exact in int64, floats in 64 bits."""

import sys

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import DTypeError
from tracejit.ir.text import walk

X, D = tj.constant(1.0), tj.constant(1.0, tj.float64)


def large_in_a_branch(x):
    n = 10**12
    if x > 0:
        n = n + 1
    return n * x


def chosen(x):
    return x * (3_000_000_000 if x > 0 else 1)


def over_int32(x):
    n = 2**31 - 1
    if x > 0:
        n = n + 1
    return n * x


def summed(x):
    n = 0
    for _ in tj.range(5):
        n = n + 10**9
    return n * x


def while_summed(x):
    n, y = 0, x
    while y < 6:
        n = n + 10**9
        y = y + 1
    return n * x


def doubled(x):
    n = 1
    for _ in range(40):
        if x > 100:
            break
        n = n * 2
    return n * x


def powers(x):
    n = 3
    for _ in tj.range(3):
        n = n**2 - n
    return n * x


def to_the_edge(x):
    n = sys.maxsize
    if x > 0:
        n = n - 1
    while n < sys.maxsize:
        n = n + 1
    return x if n == sys.maxsize else -x


def downwards(x):
    n = -sys.maxsize + 1
    while x < 10:
        if n > -sys.maxsize:
            n -= 1
        x = x + 1
    return x if n == -sys.maxsize else -x


def steps_of_a_float(x):
    t = 0.0
    while t < 1.0:
        t = t + 0.1
        x = x + 1
        if x > 1e9:
            break
    return x


def sum_of_floats(x):
    t = 0.0
    for _ in tj.range(10):
        t = t + 0.1
    return tj.cast(x, tj.float64) + t


def float_in_a_branch(x):
    k = 16777217.0
    if x > 0:
        k = k + 2.0
    return tj.cast(x, tj.float64) * k


def both_kinds(x):
    k = 2**53 + 1
    if x > 0:
        k = 0.1
    return tj.cast(x, tj.float64) * k


def of_a_range(x):
    n = tj.cast(x * 4, tj.int32)
    s = x
    for i in range(n, 0, -1):
        s = s * 2 + i
    for i in range(1, n, 2):
        s = s + i
    return s * i


def of_a_large_range(x):
    n = tj.cast(x * 3, tj.int64)
    s = x
    for i in range(n):
        s = s + (i + 1) * 3_000_000_000
    return s


@pytest.mark.parametrize("x", [X, D], ids=["float32", "float64"])
@pytest.mark.parametrize(
    "f",
    [large_in_a_branch, chosen, over_int32, summed, while_summed, doubled, powers, to_the_edge, downwards,
     steps_of_a_float, sum_of_floats, float_in_a_branch, both_kinds, of_a_range, of_a_large_range],
)  # fmt: skip
def test_as_in_python(f, x):
    got, want = tj.function(f)(x), f(x)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(tj.vectorized_map(tj.function(f), tj.stack([x, x])), [want, want])


@pytest.mark.parametrize(
    ("start", "step"),
    [
        (2**62, lambda n: n * 2), (2**62, lambda n: n + n), (sys.maxsize, lambda n: n + 1), (2, lambda n: n**70),
        (-sys.maxsize, lambda n: n - 1), (3, lambda n: n << 62), (2**40, lambda n: n * n),
        (2**62 + 2**61, lambda n: -n - n), (2**63 // 3 + 1, lambda n: n * (n // n + 2)),
    ],
)  # fmt: skip
def test_what_leaves_int64_is_an_error(start, step):
    def branch(x):
        n = start
        if x > 0:
            n = step(n)
        return x if n > 0 else -x

    def loop(x):
        n = start
        for _ in tj.range(tj.cast(x, tj.int32)):
            n = step(n)
        return x if n > 0 else -x

    for f in (branch, loop):
        with pytest.raises(DTypeError, match=r"exceeds int64|does not fit int64"):
            tj.function(f)(X)


def test_a_result_that_int32_does_not_hold_is_an_error():
    f = tj.function(lambda x: 10**12 if x > 0 else 7)
    with pytest.raises(DTypeError, match="1000000000000 does not fit int32"):
        f(X)
    assert f(-X).dtype == tj.int32 and int(f(-X)) == 7


def test_numbers_beyond_int64_are_refused():
    with pytest.raises(DTypeError, match="does not fit int64"):
        tj.function(lambda x: x * (2**70 if x > 0 else 1))(X)


def checks(f, *args):
    g = tj.function(f).get_concrete_function(*args).executable.optimized
    said = [n.attr("message") for h in walk(g) for n in h.nodes if n.op.name == "check"]
    return [m for m in said if "int64" in m]


def until(x):
    n = 0
    while x < 100.0:
        x = x * 1.5
        if x > 3:
            n += 2
        else:
            n -= 1
    return x + n


def below(x):
    i, n = 0, tj.cast(x, tj.int32)
    while i < n:
        x, i = x * 1.5, i + 1
    return x


def per_row(x):
    return tj.vectorized_map(until, tj.stack([x, x * 2, x * 3]))


def growing(x):
    n = 1
    while x < 100.0:
        x, n = x * 1.5, n * 3
    return x + n


def large_steps(x):
    n = 0
    while x < 100.0:
        x, n = x * 1.5, n + 10**9
    return x + n


def few_large_steps(x):
    n = 0
    for _ in tj.range(1000):
        n = n + 10**9
    return x + n


def sum_of_a_range(x):
    s = 0
    for i in range(tj.cast(x * 9, tj.int32)):
        s += i
    return x + s * 1.0


def square_of_a_number(x):
    s = 0
    for i in range(tj.cast(x * 9, tj.int32)):
        s = i * i
    return x + s * 1.0


def sum_of_squares(x):
    s = 0
    for i in range(tj.cast(x * 9, tj.int32)):
        s += i * i
    return x + s * 1.0


def sum_of_powers(x):
    s, k = 0, 1
    for _ in range(tj.cast(x * 9, tj.int32)):
        s, k = s + k, k * 2
    return x + s * 1.0


def sum_of_a_large_range(x):
    s = 0
    for i in range(tj.cast(x * 9, tj.int64)):
        s += i
    return x + s * 1.0


@pytest.mark.parametrize(
    ("f", "left"),
    [(sum_of_a_range, 0), (square_of_a_number, 0), (sum_of_squares, 1), (sum_of_powers, 2), (sum_of_a_large_range, 1)],
)
def test_sums_that_a_counter_bounds_are_not_checked(f, left):
    assert len(checks(f, X)) == left
    np.testing.assert_allclose(tj.function(f)(X), f(X), rtol=1e-6)


@pytest.mark.parametrize(
    ("f", "left"), [(until, 0), (below, 0), (per_row, 0), (few_large_steps, 0), (growing, 1), (large_steps, 1)]
)
def test_counters_are_not_checked(f, left):
    """Additions of constants that no loop lives to see overflow go without a check; others keep theirs."""
    assert len(checks(f, X)) == left
    np.testing.assert_allclose(tj.function(f)(X), f(X), rtol=1e-6)


def test_rows_that_branch_keep_large_integers():
    def one(x):
        n = 2**40 if x > 1 else 2**41
        while x < 3:
            n, x = n + 2**33, x + 1
        return x * 0 + n

    rows = tj.constant([0.0, 1.5, 2.0, 9.0], tj.float64)
    np.testing.assert_array_equal(tj.function(lambda v: tj.vectorized_map(one, v))(rows), [one(v) for v in rows])
