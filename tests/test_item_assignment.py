"""Assigning to items of tensors in traced functions: as NumPy does it, or an error that names who else holds them."""

import contextlib
import dataclasses
import functools
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import AliasError, ControlFlowError, ConversionWarning, DTypeError, OutOfRangeError, ShapeError


def matrix():
    return np.arange(12.0, dtype=np.float32).reshape(3, 4)


# --- keys and values --------------------------------------------------------------------------------------------------
ROW = np.array([7.0, 8.0, 9.0, 10.0], np.float32)
COLUMN = np.array([[1.0], [2.0], [3.0]], np.float32)
KEYS = {
    "row": (1, ROW), "number for a row": (1, 5.0), "negative": (-1, ROW), "element": ((1, 2), 5),
    "rows": (slice(1, 3), ROW), "all": (slice(None), COLUMN), "steps": (slice(None, None, 2), 0.5),
    "backwards": (slice(None, None, -1), COLUMN), "column": ((slice(None), 1), COLUMN[:, 0]), "dots": ((..., 0), 3.0),
    "block": ((slice(0, 2), slice(1, 3)), 1.5), "new axis": ((None, 1), ROW[None]),
    "ones in front": (0, ROW[None, None]), "empty slice": (slice(2, 2), 1.0), "positions": ([2, 0], COLUMN[:2]),
    "equal positions": ([0, 2, 0], COLUMN), "pairs": (([0, 1], [3, 2]), ROW[:2]),
    "position and slice": (([0, 2], slice(1, 3)), ROW[:2]), "slice and position": ((slice(0, 2), [3, 0]), ROW[:2]),
    "apart": ((0, slice(None), None), ROW[:, None]), "mask": (matrix() > 4, -1.0),
    "mask of rows": ([True, False, True], ROW), "mask and values": (matrix() > 7, ROW), "nothing": ([], 1.0),
    "everything": (..., ROW), "whole tuple": ((), 2.0),
}  # fmt: skip


CHANGES = [(op, name) for op in ("=", "+=", "*=") for name in KEYS if op == "=" or name != "ones in front"]


@pytest.mark.parametrize("op, name", CHANGES)
def test_keys_mean_what_they_mean_in_numpy(op, name):
    key, value = KEYS[name]

    def f(x, v):
        if op == "=":
            x[key] = v
        elif op == "+=":
            x[key] += v
        else:
            x[key] *= v
        return x

    want = f(matrix(), value)
    for given in (value, tj.constant(value)) if isinstance(value, np.ndarray) else (value,):
        np.testing.assert_array_equal(tj.function(f, strict=True)(matrix(), given), want)
    with tj.debug():
        np.testing.assert_array_equal(tj.function(f)(tj.constant(matrix()), value), want)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint16", "float16", "float64", "complex64"])
def test_the_dtype_stays(dtype):
    @tj.function(strict=True)
    def f(x, y):
        x[1] = 1
        x[0] = y
        return x

    made = f(tj.zeros(3, dtype), tj.ones([], dtype))
    assert made.dtype == dtype
    np.testing.assert_array_equal(made, np.array([1, 1, 0]).astype(made.numpy().dtype))


@pytest.mark.parametrize(
    "value", [1.5, np.float32(1.5), tj.constant(1.5), tj.constant(1, tj.int64), tj.constant([1j, 0, 0])], ids=repr
)
def test_nothing_is_narrowed(value):
    @tj.function
    def f(x, v):
        x[:] = v
        return x

    with pytest.raises(DTypeError):
        f(tj.constant([1, 2, 3]), value)


def test_a_value_that_does_not_fit():
    @tj.function
    def f(x):
        x[0:2] = tj.ones(3)
        return x

    with pytest.raises(ShapeError, match=r"cannot assign f32\[3\] to a slice of shape \(2,\)"):
        f(tj.zeros(4))


# --- positions that are data ------------------------------------------------------------------------------------------
def at_position(x, i):
    x[i] = 5.0
    x[i - 1] += 1.0
    return x


def at_pair(x, i):
    x[i, 1] = 5.0
    x[i - 1, i] *= 3.0
    x[1:, i] = x[:2, i]
    x[i, 1:3] += 1.0
    return x


def at_many(x, i):
    x[[i, 0]] = x[[0, i]] * 2.0
    return x


@pytest.mark.parametrize("f", [at_position, at_pair, at_many], ids=lambda f: f.__name__)
def test_positions_that_are_data(f):
    traced = tj.function(f, strict=True)
    for i in (0, 1, 2, -1, -2):
        want = f(matrix(), i)
        np.testing.assert_array_equal(traced(matrix(), tj.constant(i)), want)
    x = np.zeros((2, 3, 4))

    def middle(x, i):
        x[:, i] = 1.0
        x[0, :, i] = 2.0
        return x

    np.testing.assert_array_equal(tj.function(middle, strict=True)(x, tj.constant(2)), middle(x.copy(), 2))


def test_a_position_outside_is_the_error_of_reading():
    @tj.function(strict=True)
    def f(x, i):
        x[i] = 1.0
        return x

    for i in (3, -4):
        with pytest.raises(OutOfRangeError, match=f"index {i} is outside axis 0 of size 3"):
            f(tj.zeros(3), tj.constant(i))
    np.testing.assert_array_equal(f(tj.zeros(3), tj.constant(-3)), [1, 0, 0])


def test_masks_that_are_data():
    def f(x, limit):
        x[x > limit] = -1.0
        x[x < 0] *= 2.0
        x[:, x[0] == 0] = 9.0
        return x

    traced = tj.function(f, strict=True)
    for limit in (3.0, 100.0, -100.0):
        np.testing.assert_array_equal(traced(matrix(), tj.constant(limit)), f(matrix(), np.float32(limit)))


# --- gradients --------------------------------------------------------------------------------------------------------
def smooth(x, v):
    y = x * x
    y[1] = v * 3.0
    y[2:] *= v
    y[y > 5.0] = 0.0
    y[0] += y[1]
    return tj.reduce_sum(y * y)


def test_gradients_inside_and_outside():
    x, v = tj.constant([1.0, 2.0, 1.5, 3.0]), tj.constant(0.5)

    def within(x, v):
        with tj.GradientTape() as tape:
            tape.watch([x, v])
            z = smooth(x, v)
        return tape.gradient(z, [x, v])

    # y = [x0² + 3v, 3v, v x2², v x3²]; all below 5
    s = 1.0 + 1.5
    want = [4 * 1.0 * s, 0.0, 2 * 0.5**2 * 2 * 1.5**3, 2 * 0.5**2 * 2 * 3.0**3]
    by_v = 2 * s * 3 + 2 * 1.5 * 3 + 2 * 0.5 * (1.5**4 + 3.0**4)
    for f in (tj.function(within, strict=True), lambda x, v: outside(tj.function(smooth, strict=True), x, v)):
        gx, gv = f(x, v)
        np.testing.assert_allclose(gx, want, rtol=1e-5)
        np.testing.assert_allclose(gv, by_v, rtol=1e-5)
    with tj.debug():
        np.testing.assert_allclose(outside(tj.function(smooth), x, v)[0], want, rtol=1e-5)


def outside(f, x, v):
    with tj.GradientTape() as tape:
        tape.watch([x, v])
        z = f(x, v)
    return tape.gradient(z, [x, v])


def test_the_gradient_of_equal_positions_is_that_of_the_last():
    @tj.function(strict=True)
    def f(x, i, v):
        x[i] = v
        return tj.reduce_sum(x * x)

    x, v, at = tj.constant([1.0, 2.0, 3.0]), tj.constant([4.0, 5.0, 6.0]), tj.constant([1, 1, 0])
    gx, gv = outside(lambda x, v: f(x, at, v), x, v)
    np.testing.assert_array_equal(gx, [0, 0, 6])
    np.testing.assert_array_equal(gv, [0, 10, 12])


def test_gradients_through_loops():
    @tj.function(strict=True)
    def f(a, n):
        y = tj.zeros(6)
        y[0] = 1.0
        for i in range(1, n):
            y[i] = y[i - 1] * a + 1.0
        return tj.reduce_sum(y)

    def plain(a, n):
        y = [1.0]
        for _ in range(1, n):
            y.append(y[-1] * a + 1.0)
        return sum(y)

    a = tj.constant(0.7)
    with tj.GradientTape(persistent=True) as tape:
        tape.watch(a)
        z = f(a, tj.constant(5))
    np.testing.assert_allclose(z, plain(0.7, 5), rtol=1e-6)
    want = (plain(0.7 + 1e-5, 5) - plain(0.7 - 1e-5, 5)) / 2e-5
    np.testing.assert_allclose(tape.gradient(z, a), want, rtol=1e-4)


# --- loops and branches -----------------------------------------------------------------------------------------------
def test_a_table_is_written_in_place():
    def f(y, n):
        for i in range(1, n):
            for j in range(1, n):
                y[i, j] = 0.5 * y[i - 1, j] + y[i, j - 1]
        return y

    traced = tj.function(f, strict=True)
    x = np.random.default_rng(0).random((7, 7)).astype(np.float32)
    np.testing.assert_allclose(traced(x, tj.constant(7)), f(x.copy(), 7), rtol=1e-5)
    np.testing.assert_allclose(traced(x, tj.constant(4)), f(x.copy(), 4), rtol=1e-5)
    for rows in (traced, tj.function(decaying, strict=True)):
        rows(x, tj.constant(7))
        assert "while in registers" in rows.explain(x, tj.constant(7))


def decaying(x, n):
    x = x[0] * 1.0
    for i in range(1, n):
        x[i] = x[i - 1] * 0.5
    return x


def test_sorting_by_exchange():
    def f(x):
        n = len(x)
        for i in range(n):
            for j in range(n - 1 - i):
                if x[j] > x[j + 1]:
                    x[j], x[j + 1] = x[j + 1], x[j]
        return x

    x = np.random.default_rng(1).random(80).astype(np.float32)
    np.testing.assert_array_equal(tj.function(f, strict=True)(x), np.sort(x))
    np.testing.assert_array_equal(tj.function(f, strict=True)(x[:5]), np.sort(x[:5]))


def test_a_sieve():
    def f(n):
        prime = tj.ones(101, "bool")
        prime[:2] = False
        i = 2
        while i * i <= n:
            if prime[i]:
                j = i * i
                while j <= n:
                    prime[j] = False
                    j += i
            i += 1
        return prime

    found = np.flatnonzero(tj.function(f, strict=True)(tj.constant(100)))
    assert found.tolist() == [n for n in range(2, 101) if all(n % k for k in range(2, n))]


def test_an_array_of_the_functions_own_becomes_a_tensor():
    @tj.function(strict=True)
    def f(x, n):
        y, z = np.zeros(4), np.zeros(2)
        for i in range(n):
            y[i] = x[i] * 2.0
        if x[0] > 0:
            z[0] = 1.0
        return y, z

    y, z = f(tj.constant([1.0, 2.0, 3.0]), tj.constant(2))
    np.testing.assert_array_equal(y, [2, 4, 0, 0])
    np.testing.assert_array_equal(z, [1, 0])
    assert y.dtype == "float64"


# --- where it stands --------------------------------------------------------------------------------------------------
class Box:
    def __init__(self):
        self.h = tj.zeros(3)
        self.inner = {"a": [tj.zeros(2), tj.zeros(2)]}


def test_attributes_and_items_that_hold_a_tensor():
    box = Box()

    @tj.function(strict=True)
    def f(x, n):
        box.h[0] += x
        box.inner["a"][1][n] = x * 2.0
        for i in range(n):
            box.h[i + 1] = box.h[i] + 1.0
        return box.h

    first = box.h
    for want in ([1, 2, 0], [2, 3, 0]):
        np.testing.assert_array_equal(f(tj.constant(1.0), tj.constant(1)), want)
        np.testing.assert_array_equal(box.h, want)
    np.testing.assert_array_equal(first, [0, 0, 0])
    np.testing.assert_array_equal(box.inner["a"][1], [0, 2])
    np.testing.assert_array_equal(box.inner["a"][0], [0, 0])


def test_rows_of_rows():
    def f(x, i):
        x[i][1] = 5.0
        x[1:][0][2:] += 1.0
        return x

    np.testing.assert_array_equal(tj.function(f, strict=True)(matrix(), tj.constant(2)), f(matrix(), 2))


def test_functions_within():
    @tj.function(strict=True)
    def f(n):
        y = tj.zeros(4)

        def put(i, v):
            y[i] = v

        put(0, 1.0)
        for i in range(1, n):
            put(i, 3.0)
        return y

    np.testing.assert_array_equal(f(tj.constant(3)), [1, 3, 3, 0])


COUNTS = tj.zeros(3)


def test_a_variable_declared_global():
    @tj.function(strict=True)
    def f(n):
        global COUNTS
        for i in range(n):
            COUNTS[i] += 1.0
        return COUNTS[0]

    f(tj.constant(2))
    assert float(f(tj.constant(3))) == 2.0
    np.testing.assert_array_equal(COUNTS, [2, 2, 1])


class Stack:
    def __init__(self, x):
        self.items, self.n = x, 0

    def push(self, v):
        self.items[self.n] = v
        self.n += 1

    def pop(self):
        self.n -= 1
        return self.items[self.n]


def test_an_object_that_keeps_a_stack_in_a_tensor():
    @tj.function(strict=True)
    def f(x):
        s = Stack(tj.zeros(16))
        s.push(x)
        total = tj.zeros([])
        while s.n > 0:
            v = s.pop()
            total += v
            if v > 1.0:
                s.push(v - 1.0)
                s.push(v - 2.0)
        return total

    def plain(v):
        return v + (plain(v - 1.0) + plain(v - 2.0) if v > 1.0 else 0.0)

    for v in (1.0, 3.0, 5.5):
        assert float(f(tj.constant(v))) == plain(v)


def fill(a, v):
    a[0] = v
    return a


def test_arguments_are_the_calls_own():
    x = tj.zeros(2)

    @tj.function(strict=True)
    def f(a, b):
        a = fill(a, 1.0)
        b[1] = 2.0
        return a, b

    a, b = f(x, x)
    np.testing.assert_array_equal([a, b, x], [[1, 0], [0, 2], [0, 0]])
    n = np.zeros(2)
    f(n, n)
    np.testing.assert_array_equal(n, [0, 0])


# --- what else would change -------------------------------------------------------------------------------------------
G = tj.zeros(3)
SHARED = Box()
SHARED.other = SHARED.h


def another_name(x, n):
    y = x
    x[0] = 1.0
    return x + y


def a_list(x, n):
    ys = [x]
    x[0] = 1.0
    return ys


def a_row(x, n):
    row = x[0]
    row[0] = 1.0
    return x, row


def shown_by_a_row(x, n):
    row = x[0]
    x[0, 0] = 1.0
    return x, row


def the_callers(x, n):
    y = fill(x, 1.0)
    return x + y


def the_callers_in_one_line(x, n):
    return fill(x, 1.0) + x


def rows_of_a_loop(x, n):
    for row in x:
        row[0] = 1.0
    return x


def from_one_branch(x, n):
    y = x if x[0, 0] > 0 else x * 2.0
    x[0] = 1.0
    return x, y


def from_a_step_before(x, n):
    before, s = x * 0.0, 0.0
    for i in range(n):
        x[i, 0] = 1.0
        s += before[0, 0]
        before = x
    return s


def collected(x, n):
    ys = []
    for i in range(n):
        x[i, 0] = 1.0
        ys.append(x)
    return ys


def after_a_loop(x, n):
    y = x * 0.0
    for _ in range(n):
        y = x
    x[0] = 1.0
    return y


def twice_in_a_list(x, n):
    rows = [tj.zeros(2)] * 2
    rows[0][0] = 1.0
    return rows


def exchanged_rows(x, n):
    x[0], x[1] = x[1], x[0]
    return x


def two_attributes(x, n):
    SHARED.h[0] = 1.0
    return x


@pytest.mark.parametrize(
    "f, other",
    [
        (another_name, "'y'"), (a_list, r"'ys\[0\]'"), (a_row, "'x'"), (shown_by_a_row, "'row'"), (the_callers, "'x'"),
        (the_callers_in_one_line, "'x'"), (rows_of_a_loop, "'x'"), (from_one_branch, "'y'"),
        (from_a_step_before, "'before'"), (collected, r"'ys\[0\]'"), (after_a_loop, "'y'"),
        (twice_in_a_list, r"'rows\[1\]'"), (exchanged_rows, "the value that is assigned"),
        (two_attributes, "'SHARED.other'"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)  # fmt: skip
def test_who_else_holds_it_is_an_error(f, other):
    x = tj.constant(np.random.default_rng(0).random((9, 2)).astype(np.float32))
    with pytest.raises(AliasError, match=f"items of .* are assigned, and {other}, which is used later"):
        tj.function(f)(x, tj.constant(3))


def reading(z):
    return lambda: z


class Slots:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


@dataclasses.dataclass(slots=True)
class SlotsOfData:
    x: object


class OfClass:
    x = None


KEPT = []


def keep(x):
    KEPT.append(x)


def kept():
    return KEPT.pop()


def in_a_default(x):
    def h(z=x):
        return z

    return h


def in_a_keyword_default(x):
    def h(*, z=x):
        return z

    return h


def in_a_generator(x):
    def rows(z):
        yield from [z, z]

    made = rows(x)
    next(made)
    return made


def in_an_attribute_of_a_class(x):
    OfClass.x = x
    return OfClass()


HOLDERS = {
    "closure": reading, "closure of a closure": lambda x: reading(reading(x)), "default": in_a_default,
    "keyword default": in_a_keyword_default, "generator": in_a_generator,
    "generator expression": lambda x: (y for y in [x]), "iterator": lambda x: iter([x]),
    "iterator backwards": lambda x: reversed((x,)), "iterator of a dict": lambda x: iter({0: x}.items()),
    "zip": lambda x: zip([x], [1], strict=True), "enumerate": lambda x: enumerate([x]),
    "map": lambda x: map(id, [x]), "values of a dict": lambda x: {"a": x}.values(), "slots": Slots,
    "slots of a dataclass": SlotsOfData, "class": in_an_attribute_of_a_class, "method of a list": lambda x: [x].pop,
    "partial": lambda x: functools.partial(reading, x), "method": lambda x: Stack(x).push,
    "set": lambda x: {reading(x)},
}  # fmt: skip


@pytest.mark.parametrize("name", HOLDERS)
def test_whatever_holds_it_is_found(name):
    make = HOLDERS[name]

    def f(x):
        h = make(x)
        x[0] = 8.0
        return x if h is not None else h

    def of_a_copy(x):
        h = make(tj.identity(x))
        x[0] = 8.0
        return x if h is not None else h

    @tj.autograph.experimental.do_not_convert
    def hide(x):
        return make(x)

    def made_as_written(x):
        h = hide(x)
        x[0] = 8.0
        return x if h is not None else h

    x = tj.constant([1.0, 2.0])
    for g in (f, made_as_written):
        with pytest.raises(AliasError, match=r"h.*, which is used later"):
            tj.function(g)(x)
    with tj.debug(), pytest.raises(AliasError, match=r"h.*, which is used later"):
        tj.function(f)(x)
    np.testing.assert_array_equal(tj.function(of_a_copy)(x), [8, 2])
    OfClass.x = None


def test_globals_of_functions_that_are_used_later_are_found():
    def f(x):
        keep(x)
        x[0] = 8.0
        return kept()

    for run in (contextlib.nullcontext, tj.debug):
        with run(), pytest.raises(AliasError, match=r"KEPT\[0\].*, which is used later"):
            tj.function(f)(tj.constant([1.0, 2.0]))
        KEPT.clear()


def test_a_loop_of_no_steps_leaves_what_was_there():
    def f(x, n):
        y = x * 1.0
        z = y
        for _ in range(n):
            z = y * 1.0
        z[0] = 100.0
        return y

    with pytest.raises(AliasError, match="'y', which is used later"):
        tj.function(f)(tj.zeros(2), tj.constant(0))


def test_a_loop_of_some_steps_does_not():
    @tj.function(strict=True)
    def f(x, n):
        y = x * 2.0
        z = y
        for row in x:
            z = z + row
        z[0] = 100.0
        a, b = tj.zeros(2), tj.zeros(2)
        for _ in range(n):
            a = a + 1.0
        a[0] = 5.0
        return y, z, a, b

    y, z, a, b = f(tj.ones((3, 2)), tj.constant(2))
    np.testing.assert_array_equal(y, np.full((3, 2), 2))
    np.testing.assert_array_equal(z, [[100, 100], [5, 5], [5, 5]])
    np.testing.assert_array_equal(a, [5, 2])
    np.testing.assert_array_equal(b, [0, 0])


def shared(z):
    def get():
        return z * 1.0

    def put(i, v):
        z[i] = v

    return get, put


def count_up(v):
    global COUNTS
    COUNTS[0] += v


def test_functions_that_share_the_variable_get_the_new_tensor():
    @tj.function(strict=True)
    def f(x, n):
        global COUNTS
        get, put = shared(x * 1.0)
        for i in range(n):
            put(i, get()[2] + 1.0)
        put(2, 7.0)
        COUNTS = x * 1.0
        count_up(1.0)
        count_up(2.0)
        COUNTS[1] = 4.0
        return get(), COUNTS * 1.0

    made, counts = f(tj.zeros(3), tj.constant(2))
    np.testing.assert_array_equal(made, [1, 1, 7])
    np.testing.assert_array_equal(counts, [3, 4, 0])


def test_what_an_iterator_has_given_is_not_in_it_any_more():
    @tj.function(strict=True)
    def f(x):
        rows, pairs, back = iter([x * 1.0, x * 2.0]), zip([x * 3.0], [1], strict=True), reversed([x, x * 4.0])
        a = next(rows)
        a[0] = 8.0
        b, _ = next(pairs)
        b[0] = 8.0
        c = next(back)
        c[0] = 8.0
        return a, b, c, next(rows), next(back)

    made = f(tj.constant([1.0, 2.0]))
    np.testing.assert_array_equal(made, [[8, 2], [8, 6], [8, 8], [2, 4], [1, 2]])


def test_what_is_not_used_any_more_may_change():
    @tj.function(strict=True)
    def f(x, n):
        y = x
        row = x[0]
        s = tj.reduce_sum(y) + row[0]
        x[0] = 1.0
        y = x
        first = x[0, 0]
        for i in range(n):
            x[i, 1] = 2.0
            y = x
        z = fill(tj.identity(x), 3.0)
        return x, y, z, s, first

    x, y, z, s, first = f(tj.zeros((3, 2)), tj.constant(2))
    np.testing.assert_array_equal(x, [[1, 2], [0, 2], [0, 0]])
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(z[1:], x[1:])
    assert (float(s), float(first)) == (0.0, 1.0)


def test_tensors_from_outside_do_not_change():
    @tj.function
    def f(x):
        h = G
        h[0] = x
        return h

    @tj.function
    def g(x):
        G[0] = x
        return G

    for made in (f, g):
        with pytest.raises(ControlFlowError, match="a tensor from outside the function"):
            made(tj.constant(1.0))


def test_copies_and_attributes_of_tensors():
    @tj.function
    def f(x):
        x[[0, 1]][0] = 1.0
        return x

    @tj.function
    def g(x):
        x.T[0] = 1.0
        return x

    for made in (f, g):
        with pytest.raises(ControlFlowError, match="a copy of elements, or an attribute"):
            made(tj.zeros((2, 2)))


# --- outside traces ---------------------------------------------------------------------------------------------------
def test_eagerly_it_is_a_type_error_that_names_the_ways():
    with pytest.raises(TypeError, match="does not support item assignment") as e:
        tj.zeros(3)[0] = 1.0
    assert all(way in str(e.value) for way in ("tj.Variable", "tensor_scatter_nd_update", "@tj.function"))
    with pytest.raises(TypeError, match="does not support item assignment"):
        tj.function(at_position, autograph=False)(tj.zeros(3), 1)


def counted(x, n):
    log = {}
    x[0] = 1.5
    i = 0
    while i < n:
        x = fill(x, x[0] + 1.0) if i < 2 else x * 2.0
        i += 1
    try:
        x[-1:] += 1.0
    finally:
        log["done"] = True
    return x, len(log)


def test_plain_python_gives_the_same():
    x = tj.constant([1.0, 2.0, 3.0])
    want, one = tj.function(counted, strict=True)(x, 3)
    for given in (x, x.numpy()):
        with tj.debug():
            made, _ = tj.function(counted)(given, 3)
        np.testing.assert_array_equal(made, want)
        np.testing.assert_array_equal(given, [1, 2, 3])
    assert one == 1
    with tj.debug(), pytest.raises(AliasError, match="'y'"):
        tj.function(another_name)(x, 1)


def test_a_function_that_falls_back_assigns_too():
    @tj.function
    def f(x):
        x[0] = 5.0
        x[1] = float(np.asarray(x).sum())
        return fill(x, 7.0)

    with pytest.warns(ConversionWarning):
        np.testing.assert_array_equal(f(tj.constant([1.0, 2.0, 3.0])), [7, 10, 3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(f(tj.constant([1.0, 2.0, 4.0])), [7, 11, 4])
