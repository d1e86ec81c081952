"""Loops over single numbers and elements of arrays as one native function: values, errors from inside, what fits."""

import re

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import DTypeError, OutOfRangeError
from tracejit.lower import compiler
from tracejit.lower.control import RegisterUnit

LONG = np.arange(1.0, 9.0)
GRID = np.arange(12.0).reshape(3, 4)


def steps(f, *args):
    """The line that `explain` has for each step of the program."""
    text = f.explain(*args)
    return re.findall(r"^  \d+: (.*?)(?:  .*)?$", text[text.index("\nkernels") :], re.M)


def in_registers(f, *args):
    return any("in registers" in s for s in steps(f, *args))


def flat(x):
    return [np.asarray(y) for y in x] if isinstance(x, tuple) else [np.asarray(x)]


def failure(f, *args):
    with pytest.raises(Exception) as caught:
        f(*args)
    return caught.value


# --- functions that run in registers, as Python and traced ------------------------------------------------------------
def newton(x, a, n):
    i = 0
    while i < n:
        x = x - (x * x - a) / (2.0 * x)
        a = a + 0.001
        i += 1
    return x, a, i


def until_close(x, a):
    f = x * x - a
    count = 0
    while tj.abs(f) > 1e-12 and count < 60:
        x = x - f / (2.0 * x)
        f = x * x - a
        count += 1
    return x, count


def collatz(n):
    k = 0
    while n > 1:
        assert n < 1_000_000_000, "too large"
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        k += 1
    return k


def nested(n):
    total = 0 * n
    i = 0
    while i < n:
        j = 0
        while j < i:
            if (i * j) % 3 == 1:
                total += i * j
            else:
                total -= j
            j += 1
        i += 1
    return total


def summed(x, n):
    s = 0.0 * x[0]
    i = 0
    while i < n:
        s = s * 0.5 + x[i] * x[-i - 1]
        i += 1
    return s


def by_row_and_column(x, n):
    s = x[0, 0]
    i = 0
    while i < n:
        j = 0
        while j < n:
            s = s + x[i, j] * x[j][i] - x[i, -1] * x[-1, j]
            j += 1
        i += 1
    return s


def through_range(x, n):
    s = 0.0 * x[0]
    for i in range(n):
        if x[i] > 2.5:
            s += x[i]
        elif x[i] > 1.5:
            s -= x[i] / 3.0
    return s


def gcd(a, b):
    while b != 0:
        a, b = b, a % b
    return a


def bisected(x, v):
    """The first position whose element is not below v."""
    low, high = 0, 8
    while low < high:
        middle = (low + high) // 2
        if x[middle] < v:
            low = middle + 1
        else:
            high = middle
    return low


def smoothed(x):
    s = x[0]
    out = []
    for v in x:
        s = 0.5 * s + v
        out.append(s)
    return s, tj.stack(out)


def of_rows(x):
    s = x[0, 0]
    for row in x:
        s = s * 0.5 + row[0] * row[-1]
    return s


def inner_rows(x, n):
    s = x[0]
    i = 0
    while i < n:
        for v in x:
            s = s * 0.25 + v
        i += 1
    return s


def written(x, n):
    out = tj.TensorArray(tj.float64, size=8)
    s = x
    i = 0
    while i < n:
        s = s * 2.0 - x
        out = out.write(i, s)
        i += 1
    return out.stack()


def flags(x, n):
    count = 0
    i = 0
    while i < n:
        if x[i] and not x[i - 1]:
            count += 1
        i += 1
    return count


CASES = {
    "newton": (newton, (1.0, 2.0, np.int32(40))),
    "newton, no steps": (newton, (1.0, 2.0, np.int32(0))),
    "until_close": (until_close, (3.0, 2.0)),
    "until_close in float32": (until_close, (np.float32(3.0), np.float32(2.0))),
    "collatz": (collatz, (np.int64(27),)),
    "nested": (nested, (np.int32(9),)),
    "summed": (summed, (LONG, np.int32(8))),
    "summed, no steps": (summed, (LONG, np.int32(0))),
    "summed in float32": (summed, (LONG.astype(np.float32), np.int64(5))),
    "rows and columns": (by_row_and_column, (GRID, np.int32(3))),
    "through a range": (through_range, (LONG[:4], np.int32(4))),
    "gcd": (gcd, (np.int32(462), np.int32(1071))),
    "bisected": (bisected, (LONG, 4.5)),
    "smoothed": (smoothed, (LONG,)),
    "rows": (of_rows, (np.arange(30.0).reshape(10, 3),)),
    "a scan inside": (inner_rows, (LONG, np.int32(3))),
    "written": (written, (1.5, np.int32(6))),
    "flags": (flags, (LONG % 3 == 0, np.int32(8))),
}


@pytest.mark.parametrize("name", CASES)
def test_traced_is_what_python_does(name):
    f, given = CASES[name]
    args = [tj.constant(np.asarray(a)) for a in given]
    traced = tj.function(f)
    for got, want in zip(flat(traced(*args)), flat(f(*args)), strict=True):
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))
    assert in_registers(traced, *args)


@pytest.mark.parametrize("name", ["summed", "rows and columns", "smoothed", "rows", "written"])
def test_sizes_may_be_symbolic(name):
    f, given = CASES[name]
    args = [np.asarray(a) for a in given]
    specs = [tj.TensorSpec([None] * a.ndim, a.dtype) for a in args]
    traced = tj.function(f, input_signature=specs)
    for cut in (0, 1):
        now = [tj.constant(a[: len(a) - cut] if a.ndim else a - cut) for a in args]
        for got, want in zip(flat(traced(*now)), flat(f(*now)), strict=True):
            np.testing.assert_array_equal(np.asarray(got), np.asarray(want))
    assert in_registers(traced, *now)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32, np.bool_, np.float16])
def test_elements_of_any_type_are_read(dtype):
    def f(x, n):
        s = tj.cast(x[0], tj.float32)
        i = 0
        while i < n:
            s = s * 2.0 + tj.cast(x[i], tj.float32)
            i += 1
        return s

    args = tj.constant(np.array([1, 0, 1, 3]).astype(dtype)), tj.constant(np.int32(4))
    assert float(tj.function(f)(*args)) == float(f(*args))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_positions_of_any_type(dtype):
    @tj.function
    def chase(x, i):
        """The positions that follow each other, until one comes back to the start."""
        count = 0
        at = x[i]
        while at != i:
            at = x[at]
            count += 1
        return count

    args = tj.constant(np.array([3, 2, 0, 1], dtype)), tj.constant(dtype(1))
    assert int(chase(*args)) == 3
    assert in_registers(chase, *args)


def test_views_of_arrays_are_read_in_place():
    @tj.function
    def f(x, n):
        t = tj.transpose(x)[:, ::-1]
        s = t[0, 0]
        i = 0
        while i < n:
            s = s * 0.5 + t[i, 1] + x[1:, 1:][i - 1][-1]
            i += 1
        return s

    args = tj.constant(GRID), tj.constant(np.int32(3))
    assert float(f(*args)) == float(f.python_function(*args))
    assert in_registers(f, *args)


def test_a_state_that_is_read_after_it_is_written():
    """Each step reads what earlier ones wrote, and what the array held before."""

    def f(x, n):
        y = tj.TensorArray(tj.float64, size=8).unstack(x)
        i = 2
        while i < n:
            old = y.read(i)
            y = y.write(i, y.read(i - 1) + y.read(i - 2))
            y = y.write(i - 2, old * y.read(i))
            i += 1
        return y.stack()

    args = tj.constant(LONG), tj.constant(np.int32(7))
    traced = tj.function(f)
    np.testing.assert_array_equal(traced(*args), f(*args))
    np.testing.assert_array_equal(args[0], LONG)


def test_gradients_of_loops_over_elements():
    def f(x, n):
        s = x[0]
        i = 0
        while i < n:
            s = tj.sin(s) * x[i]
            i += 1
        return s

    def gradient(x, n):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x, n)
        return tape.gradient(y, x)

    args = tj.constant(LONG), tj.constant(np.int32(6))
    np.testing.assert_allclose(tj.function(gradient)(*args), gradient(*args), rtol=1e-13)


# --- errors from inside -----------------------------------------------------------------------------------------------
def test_a_failing_assertion_leaves_variables_as_they_were():
    v = tj.Variable(1.0)

    @tj.function
    def f(x, n):
        v.assign(2.0)
        i = 0
        while i < n:
            v.assign_add(x)
            assert v < 5.0, "v is large"
            i += 1
        return x

    f(tj.constant(0.5), tj.constant(3))
    assert float(v) == 3.5
    error = failure(f, tj.constant(2.0), tj.constant(3))
    assert type(error) is AssertionError and "v is large" in str(error)
    assert float(v) == 3.5
    assert in_registers(f, tj.constant(2.0), tj.constant(3))


def test_the_first_check_that_fails_is_the_one_that_is_raised():
    @tj.function
    def f(x, n):
        i = 0
        s = x[0]
        while i < n:
            assert s < 100.0, "large"
            s = s + x[i]
            assert s > 0.0, "small"
            i += 1
        return s

    n = tj.constant(9)
    assert in_registers(f, tj.constant(LONG), n)
    assert "large" in str(failure(f, tj.constant([1.0, 200.0, 1.0]), n))
    assert "small" in str(failure(f, tj.constant([1.0, -200.0, 1.0]), n))
    out = failure(f, tj.constant([1.0, 2.0, 1.0]), n)
    assert isinstance(out, OutOfRangeError) and "index 3 is outside axis 0 of size 3" in str(out)
    assert float(f(tj.constant([1.0, 2.0, 1.0]), tj.constant(3))) == 5.0


def test_a_check_in_a_branch_counts_only_where_it_is_taken():
    @tj.function
    def f(x, n):
        s = 0.0
        i = 0
        while i < n:
            if i < 3:
                s += x[i]
            i += 1
        return s

    args = tj.constant(LONG[:3]), tj.constant(7)
    assert float(f(*args)) == 6.0
    assert in_registers(f, *args)
    assert isinstance(failure(f, tj.constant(LONG[:2]), tj.constant(7)), OutOfRangeError)


@pytest.mark.parametrize("i", [3, -4])
def test_positions_out_of_range_name_the_line(i):
    @tj.function
    def f(x, i, n):
        s = 0.0
        while s < n:
            s += x[i]
        return s

    args = tj.constant([1.0, 2.0, 3.0]), tj.constant(i), tj.constant(5.0)
    error = failure(f, *args)
    assert isinstance(error, OutOfRangeError) and f"index {i} is outside axis 0 of size 3" in str(error)
    assert "s += x[i]" in str(error) or "test_register_loops.py" in str(error)
    assert float(f(args[0], tj.constant(-1), args[2])) == 6.0


def test_a_loop_in_a_loop_over_arrays_fails_too():
    """The outer loop is no single native function, the inner one is."""

    @tj.function
    def f(x, n):
        total = tj.zeros_like(x)
        for k in tj.range(n):
            i = 0
            s = 0.0
            while s < 4.0:
                assert i < 6, "too many steps"
                s += x[k]
                i += 1
            total = total + s * x
        return total

    x = tj.constant(np.array([1.0, 3.0, 0.5]))
    assert "too many steps" in str(failure(f, x, tj.constant(3)))
    np.testing.assert_array_equal(f(x, tj.constant(2)), (4.0 + 6.0) * np.array([1.0, 3.0, 0.5]))


# --- counters ---------------------------------------------------------------------------------------------------------
def checks(f, *args):
    """The checks that are left in the graph and its regions."""
    return str(f.graph(*args, stage="optimized")).count("check(")


def test_a_counter_below_a_bound_needs_no_check():
    args = tj.constant(1.0), tj.constant(2.0), tj.constant(np.int32(4))
    assert checks(tj.function(newton), *args) == 0
    assert checks(tj.function(until_close), *args[:2]) == 0
    assert checks(tj.function(nested), tj.constant(np.int32(3))) > 0  # i·j may be large


@pytest.mark.parametrize("last", [2**31 - 1, 2**31 - 2])
def test_a_counter_may_go_up_to_the_last_number(last):
    @tj.function
    def f(n, i):
        k = 0
        while i < n:
            i = i + 1
            k = k + 1
        return k

    assert int(f(tj.constant(np.int32(last)), 2**31 - 5)) == last - (2**31 - 5)


def test_a_counter_without_a_bound_is_checked():
    @tj.function
    def f(x, i):
        while x < 10.0:
            x = x + 1.0
            i = i + 1
        return x, i

    args = tj.constant(0.0), 2**31 - 11
    assert int(f(*args)[1]) == 2**31 - 1
    assert in_registers(f, *args)
    error = failure(f, tj.constant(-1.0), 2**31 - 11)
    assert isinstance(error, DTypeError) and "2147483648 does not fit int32" in str(error)


def test_steps_of_two_may_leave_the_type():
    @tj.function
    def f(n, i):
        while i < n:
            i = i + 2
        return i

    assert int(f(tj.constant(np.int32(2**31 - 1)), 2**31 - 5)) == 2**31 - 1
    assert isinstance(failure(f, tj.constant(np.int32(2**31 - 1)), 2**31 - 4), DTypeError)


def test_a_bound_that_the_steps_change_proves_nothing_too_much():
    @tj.function
    def f(n, i):
        while i < n:
            n = n - 1
            i = i + i
        return i

    assert int(f(tj.constant(np.int32(100)), 1)) == 128
    assert isinstance(failure(f, tj.constant(np.int32(2**31 - 1)), 2**30 + 1), DTypeError)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint64])
def test_division_by_powers_of_two(dtype):
    @tj.function
    def f(x):
        return x // 1, x // 2, x // 16, x % 1, x % 2, x % 16, x // 64, x % 64

    info = np.iinfo(dtype)
    x = np.array([info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3, 15, 16, 17], dtype)
    x = np.concatenate([x, -x[5:]]) if info.min else x
    for got, want in zip(f(tj.constant(x)), f.python_function(x), strict=True):
        np.testing.assert_array_equal(got, want)


def test_numbers_divided_by_powers_of_two():
    @tj.function
    def bits(n):
        count = n * 0
        while n != 0 and n != -1:
            count += n % 2
            n = n // 2
        return count

    for n in (0, 1, 255, -256, 2**62 + 5, -(2**63)):
        assert int(bits(tj.constant(np.int64(n)))) == bits.python_function(n)
    assert in_registers(bits, tj.constant(np.int64(3)))


# --- what is known of numbers -----------------------------------------------------------------------------------------
def code(f, *args):
    """The LLVM IR of the native functions of loops."""
    units = f.get_concrete_function(*args).executable.program.units
    return compiler.llvm([s for u in units if isinstance(u, RegisterUnit) for s in u.sources()])


@pytest.mark.parametrize("first", [0, 5, -20, 2**32 - 9, 2**40])
def test_divisions_of_counters(first):
    """Those that are never negative are divided without signs."""

    def f(n, d):
        i, k = first, first
        quotients, rests, others = 0 * n, 0 * n, 0 * n
        while i < n:
            quotients += i // 7
            rests += i % 7 - k % 12
            if i > 3:
                others += (i // 2) % d + (i + 40) // (d * d + 3)
            i += 3
            k -= 1
        return quotients, rests, others

    traced = tj.function(f)
    for d in (1, 5, -3, 0, 2**33 + 1):
        args = np.int64(first + 61), np.int64(d)
        with np.errstate(all="ignore"):
            want = f(*map(tj.constant, args))
        for got, x in zip(traced(*map(tj.constant, args)), want, strict=True):
            assert int(got) == int(x)
    assert in_registers(traced, *map(tj.constant, args))
    assert ("udiv" in code(traced, *map(tj.constant, args))) == (first >= 0)


def test_a_counter_of_a_range_is_divided_in_32_bits():
    @tj.function
    def f(n):
        s = 0 * n
        for i in range(n):
            s += i % 7
        return s

    args = (tj.constant(np.int32(50)),)
    assert int(f(*args)) == sum(i % 7 for i in range(50)) and "udiv i32" in code(f, *args)


@pytest.mark.parametrize("start", [0.0, -0.0, np.inf, np.nan])
def test_first_values_that_are_known_are_part_of_the_code(start):
    @tj.function
    def f(n):
        s, i = start, 0
        while i < n:
            s = s * 0.5
            i += 1
        return s

    got = np.float64(f(tj.constant(2)))
    assert got.tobytes() == np.float64(start).tobytes() or (np.isnan(start) and np.isnan(got))


# --- checks and positions ---------------------------------------------------------------------------------------------
def histogram(v):
    h = tj.zeros(10, tj.int64)
    for i in tj.range(v.shape[0]):
        h[int(v[i] * 10)] += 1
    return h


def test_positions_that_were_checked_are_written_to_without_a_branch():
    f = tj.function(histogram)
    v = np.random.default_rng(0).random(500)
    np.testing.assert_array_equal(f(tj.constant(v)), np.histogram(v, 10, (0, 1))[0])
    below = np.histogram(v - 1, 10, (-1, 0))[0]  # positions from the end, the last of which is 0
    np.testing.assert_array_equal(f(tj.constant(v - 1)), np.roll(below, 1))
    assert in_registers(f, tj.constant(v))
    text = code(f, tj.constant(v))
    assert "fptosi.sat" not in text and "llvm.smin" not in text.split("else", 1)[0]


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (np.nan, ValueError, "NaN"), (np.inf, OverflowError, "infinity"), (-np.inf, OverflowError, "infinity"),
        (1e300, OverflowError, "cannot convert 1e"), (-(2.0**63), OverflowError, "cannot convert -9"),
        (1e12, DTypeError, "10000000000000"), (1.0, OutOfRangeError, "index 10"), (-1.1, OutOfRangeError, "index -11"),
    ],
)  # fmt: skip
def test_the_first_check_that_fails_says_why(wrong, error, said):
    f = tj.function(histogram)
    v = np.linspace(0, 0.99, 50)
    assert in_registers(f, tj.constant(v))
    v[30], v[40] = wrong, np.nan
    with pytest.raises(error, match=said):
        f(tj.constant(v))


def test_limits_of_whole_parts():
    """The largest floats that are integers of 64 bits, and the next ones."""

    @tj.function
    def f(v):
        s = tj.zeros((), tj.int64)
        for i in tj.range(v.shape[0]):
            s = s + tj.cast(v[i], tj.int64) // 2**32
            n = int(v[i] / 2.0**40)
            s += n
        return s

    edge = np.nextafter(2.0**63, 0)
    for x in (edge, -edge, 1.5, -1.5, 0.0, 2.0**40, -(2.0**52) - 0.5):
        want = int(x) // 2**32 + int(x / 2.0**40)
        assert int(f(tj.constant([x, 0.0], tj.float64))) == want


def test_positions_of_which_less_is_known_stay_on_their_axes():
    @tj.function
    def f(v, at):
        h = tj.zeros(5)
        for i in tj.range(at.shape[0]):
            k = at[i] % 7 - 2
            if k < 5:
                h[k] = h[k] + v[i]
        return h

    for at in (np.arange(40), -np.arange(40)):
        want = np.zeros(5, np.float32)
        for k in at % 7 - 2:
            want[k] += 1
        np.testing.assert_array_equal(f(tj.ones(40), tj.constant(at)), want)
