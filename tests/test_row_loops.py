"""vectorized_map over loops: each row takes its own number of steps, as many rows at once as registers hold."""

import re

import numpy as np
import pytest

import tracejit as tj


def by_rows(f, *args):
    """Whether a step of the program is one native function of all rows."""
    return re.search(r"^  \d+: while by rows", f.explain(*args), re.M) is not None


def halvings(x):
    count = 0
    while x > 1.0 and count < 50:
        x = x / 2.0
        count += 1
    return x, count


def escape(c):
    zr, zi, count = 0.0 * c[0], 0.0 * c[1], 0
    while count < 40 and zr * zr + zi * zi <= 4.0:
        zr, zi = zr * zr - zi * zi + c[0], 2.0 * zr * zi + c[1]
        count += 1
    return count


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 15, 64, 1003])
def test_each_row_takes_its_own_steps(dtype, rows):
    f = tj.function(lambda x: tj.vectorized_map(halvings, x))
    x = tj.constant(np.exp(np.random.default_rng(rows).uniform(-3, 30, rows)).astype(dtype))
    want = [halvings(v) for v in x.numpy()]
    for k, got in enumerate(f(x)):
        np.testing.assert_array_equal(got, np.array([w[k] for w in want]))
    assert by_rows(f, x) or rows == 1


def test_many_rows_on_all_threads():
    f = tj.function(lambda re, im: tj.vectorized_map(escape, (re, im)))
    re, im = np.meshgrid(np.linspace(-2, 0.5, 71), np.linspace(-1.2, 1.2, 90))
    re, im = re.reshape(-1), im.reshape(-1)
    want = [escape(c) for c in zip(re.tolist(), im.tolist(), strict=True)]
    np.testing.assert_array_equal(f(tj.constant(re), tj.constant(im)), want)
    assert by_rows(f, tj.constant(re), tj.constant(im))


def test_loops_in_loops_of_rows():
    def one(n):
        total = n * 0
        while n > 0:
            k = n
            while k % 3 != 0:
                k = k - 1
                total = total + k
            n = n - 2
        return total

    f = tj.function(lambda n: tj.vectorized_map(one, n))
    n = tj.constant(np.arange(-3, 90))
    np.testing.assert_array_equal(f(n), [one(i) for i in range(-3, 90)])
    assert by_rows(f, n)


def test_no_rows_and_one_number_for_all_rows():
    def doubled(x, limit):
        def one(v):
            while v < limit:
                v = v * 2.0
            return v

        return tj.vectorized_map(one, x)

    f, x = tj.function(doubled), np.array([0.5, 3.0, 100.0])
    limit = tj.constant(np.float64(20.0))
    np.testing.assert_array_equal(f(tj.constant(x), limit), [32.0, 24.0, 100.0])
    assert by_rows(f, tj.constant(x), limit)
    symbolic = tj.function(doubled, input_signature=[tj.TensorSpec([None], tj.float64), tj.TensorSpec([], tj.float64)])
    for n in (3, 0, 2):
        np.testing.assert_array_equal(symbolic(tj.constant(x[:n]), limit), [32.0, 24.0, 100.0][:n])


def test_steps_that_look_at_other_rows_are_no_loop_of_rows():
    """Rows that are done go on changing: all of them take part until the last one is done."""

    @tj.function
    def f(x):
        count = tj.zeros_like(x)
        while tj.reduce_any(x > 1.0):
            x = x / 2.0
            count = count + 1.0
        return x, count

    x = tj.constant(np.array([1.0, 9.0, 100.0]))
    assert not by_rows(f, x)
    for got, want in zip(f(x), f.python_function(x), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32, np.float16])
def test_rows_of_any_type(dtype):
    def one(x):
        y = x * 0 + x
        while y < 40:
            y = y + y
        return y

    f = tj.function(lambda x: tj.vectorized_map(one, x))
    x = np.arange(1, 40).astype(dtype)
    want = [next(v * 2**k for k in range(8) if not v * 2**k < 40) for v in x.tolist()]
    np.testing.assert_array_equal(f(tj.constant(x)), np.array(want).astype(dtype))


@pytest.mark.parametrize("states", [1, 3, 7, 14])
def test_many_states(states):
    """The more values a step reads, the fewer registers each of them gets."""

    def one(x):
        values = tuple([x + k for k in range(states)])
        while values[0] < 30.0:
            values = tuple([v * 1.5 + values[k - 1] * 0.25 for k, v in enumerate(values)])
        return values

    f = tj.function(lambda x: tj.vectorized_map(one, x))
    x = np.random.default_rng(states).uniform(0.5, 40.0, 131)
    want = np.array([one(v) for v in x]).T
    np.testing.assert_allclose(np.array([np.asarray(y) for y in f(tj.constant(x))]), want, rtol=1e-12)
    assert by_rows(f, tj.constant(x))


def test_a_check_of_the_rows_is_kept():
    """What may fail in a row is checked: such loops take their steps together."""

    def one(x):
        count = 2**31 - 10
        while x > 1.0:
            x = x / 2.0
            count = count + 1
        return count

    f = tj.function(lambda x: tj.vectorized_map(one, x))
    few, many = tj.constant(np.array([4.0, 100.0, 1.0])), tj.constant(np.array([4.0, 2.0**20, 1.0]))
    assert f(few).numpy().tolist() == [2**31 - 8, 2**31 - 3, 2**31 - 10]
    with pytest.raises(tj.errors.DTypeError, match="does not fit int32"):
        f(many)


def test_gradients_of_rows():
    def one(x):
        while x > 1.0:
            x = x * 0.75
        return x * x

    def gradient(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_sum(tj.vectorized_map(one, x))
        return tape.gradient(y, x)

    x = tj.constant(np.array([0.5, 1.5, 7.0]))
    np.testing.assert_allclose(tj.function(gradient)(x), gradient(x), rtol=1e-12)
