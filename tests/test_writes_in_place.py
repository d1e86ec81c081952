"""Elements written in branches and inner loops: in the array's one buffer, unless an older state is still read."""

import re

import numpy as np
import pytest
from array_programs import sieve
from control_flow_corpus import Plain
from lowerings import Lowered

import tracejit as tj
from tracejit.errors import OutOfRangeError

INT = np.int32
LINE = np.array([3.0, -1.0, 2.0, -5.0, 4.0, -2.0, 7.0])
TABLE = np.arange(12.0).reshape(3, 4) - 5.0


def clipped(m, x, n):
    for i in m.range(n):
        if x[i] < 0.0:
            x[i] = 0.0
    return x


def both_ways(m, x, n):
    for i in m.range(n):
        if x[i] < 0.0:
            x[i] = x[i] * -1.0
            x[0] = x[0] + 1.0
        elif x[i] > 3.0:
            x[i] = x[i - 1]
        else:
            x[-1] += x[i]
    return x


def bubbles(m, x, n):
    for i in m.range(n):
        for j in m.range(n - 1 - i):
            if x[j] > x[j + 1]:
                x[j], x[j + 1] = x[j + 1], x[j]
    return x


def inserted(m, x, n):
    for i in m.range(1, n):
        v, j = x[i], i - 1
        while j >= 0 and x[j] > v:
            x[j + 1] = x[j]
            j -= 1
        x[j + 1] = v
    return x


def two_arrays(m, x, n):
    y, count = m.zeros(7, m.float64), m.zeros(3, m.int32)
    for i in m.range(n):
        for j in m.range(i + 1):
            if x[j] > 1.0:
                y[j] += x[i]
                if y[j] > 5.0:
                    x[i] -= 1.0
                    count[1] += 1
            else:
                count[0] += 1
    return x, y, count


def table(m, a, n):
    for i in m.range(1, n):
        for j in m.range(1, n + 1):
            if a[i, j] > a[i - 1, j - 1]:
                a[i, j] = a[i - 1, j] + a[i, j - 1]
            else:
                a[i][j] = m.minimum(a[i - 1, j], a[i, j - 1]) - 1.0
    return a


def stacked(m, x, n):
    out = []
    for v in x * 1.0:
        if v > 0.0:
            x[n] = x[n] + v
        out.append(x[n])
    return x, m.stack(out)


# what must not be written in place, or not all of it
def old_one_kept(m, x, n):
    old = x * 1.0
    for i in m.range(n):
        y = old
        if x[i] > 0.0:
            x[i] = y[i - 1] + 1.0
            old = x * 1.0
        x[0] = y[1]
    return x, old


def element_read_before(m, x, n):
    s = x[0] * 0.0
    for i in m.range(n):
        a = x[i]
        if a > 0.0:
            x[i] = a * 2.0
            b = x[i]
        else:
            b = a
        s = s * 0.5 + a * b + x[i]
    return x, s


def row_read_after(m, a, n):
    s = a[0, 0] * 0.0
    for i in m.range(n):
        row = a[i] * 1.0
        if row[1] > -4.0:
            a[i, 1] = 100.0
        s = s + row[1]
    return a, s


def one_of_two(m, x, n):
    y = x * 2.0
    for i in m.range(n):
        z = x * 1.0 if x[i] > 0.0 else y * 1.0
        z[i] = 9.0
        x[0] = x[0] + z[i - 1]
    return x, y


def undone_copy(m, x, n):
    s = x[0] * 0.0
    for i in m.range(n):
        y = x * 1.0
        for j in m.range(i):
            y[j] = y[j] + y[i]
        s = s + y[0]
        x[i] = s
    return x, s


IN_PLACE = {
    clipped: LINE, both_ways: LINE, bubbles: LINE, inserted: LINE, two_arrays: LINE, table: TABLE, stacked: LINE,
}  # fmt: skip
OTHERS = {
    old_one_kept: LINE, element_read_before: LINE, row_read_after: TABLE, one_of_two: LINE, undone_copy: LINE,
}  # fmt: skip


def leaves(x):
    return [np.asarray(y) for y in x] if isinstance(x, tuple) else [np.asarray(x)]



@pytest.mark.parametrize("f", [*IN_PLACE, *OTHERS], ids=lambda f: f.__name__)
def test_in_every_way(f):
    x = (IN_PLACE | OTHERS)[f]
    lowered = Lowered(lambda x, n: f(tj, x, n), strict=True)
    for n in (3, 0, 2):
        want = leaves(f(Plain, x.copy(), INT(n)))
        for _, got in lowered.results(tj.constant(x), tj.constant(INT(n))):
            for a, b in zip(got, want, strict=True):
                assert a.dtype.kind == b.dtype.kind
                np.testing.assert_allclose(a, b)


@pytest.mark.parametrize("f", IN_PLACE, ids=lambda f: f.__name__)
def test_loops_are_one_native_function(f):
    g = tj.function(lambda x, n: f(tj, x, n), strict=True)
    text = g.explain(tj.constant(IN_PLACE[f]), tj.constant(INT(3)))
    assert len(re.findall(r"(while|scan) in registers", text)) == 1 and "cond:" not in text


@pytest.mark.parametrize("f", [clipped, both_ways, bubbles, table])
def test_open_sizes(f):
    x = IN_PLACE[f]
    open_ = [tj.TensorSpec([None] * x.ndim, tj.float64), tj.TensorSpec([], tj.int32)]
    g = tj.function(lambda x, n: f(tj, x, n), input_signature=open_, strict=True)
    for k in (x.shape[0], 2):
        part = x[:k]
        np.testing.assert_allclose(g(part, INT(k)), f(Plain, part.copy(), INT(k)))


def test_gradients():
    def loss(x, n):
        return tj.reduce_sum(tj.sin(both_ways(tj, x * 1.0, n)))

    def slope(f, x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x, tj.constant(6))
        return tape.gradient(y, x)

    x = tj.constant(LINE + 0.125)
    got = tj.function(lambda x: slope(loss, x), strict=True)(x).numpy()
    np.testing.assert_allclose(slope(tj.function(loss, strict=True), x), got)
    for i in range(7):
        ends = []
        for h in (1e-6, -1e-6):
            moved = LINE + 0.125
            moved[i] += h
            ends.append(np.sin(both_ways(Plain, moved, INT(6))).sum())
        np.testing.assert_allclose(got[i], (ends[0] - ends[1]) / 2e-6, atol=1e-6)


def test_arguments_and_variables_stay_what_they_were():
    v, x = tj.Variable(LINE), tj.constant(LINE)

    @tj.function(strict=True)
    def f(x, n):
        y = v * 1.0
        for i in tj.range(n):
            if y[i] < 0.0:
                y[i] = x[i - 1]
        v.assign(y)
        return clipped(tj, x, n)

    f(x, tj.constant(7))
    np.testing.assert_array_equal(x, LINE)
    before = v.numpy().copy()
    with pytest.raises(OutOfRangeError, match="index 7 is outside axis 0 of size 7"):
        f(x, tj.constant(8))
    np.testing.assert_array_equal(x, LINE)
    np.testing.assert_array_equal(v, before)


def test_a_mask_of_numbers_that_are_struck_out():
    primes = tj.function(lambda n: sieve(tj, n), strict=True)
    want = [k > 1 and all(k % d for d in range(2, k)) for k in range(61)]
    np.testing.assert_array_equal(primes(tj.constant(60)), want)
