"""`v[key].assign(value)` in traced functions: index arrays and masks, with the results of the eager form."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.autodiff.functional import jvp
from tracejit.errors import ArgumentError, OutOfRangeError, TracedValueError
from tracejit.ir.op import OPS
from tracejit.tensor import wrap

ALL = slice(None)
MASK = np.array([True, False, True, True, False])
GRID = np.array([[True, False, False], [True, True, False], [False, False, False], [False, True, True]])
RNG = np.random.default_rng(0)


def at(*numbers):
    return np.array(numbers)


def values(*shape):
    return RNG.normal(size=shape)


GOOD = [
    ((5,), (at(0, 2, 4),), at(1.0, 2.0, 3.0)),
    ((5,), (at(0, 2, 2),), at(1.0, 2.0, 3.0)),  # the last of equal positions counts
    ((5,), (at(-1, 0),), 7.0),
    ((5,), (at(-1, 0),), values(1, 2)),
    ((5,), (np.array([[0, 2], [1, 1]]),), at(1.0, 2.0)),
    ((5,), (np.zeros(0, np.int64),), 1.0),
    ((5, 3), (at(0, 2),), at(1.0, 2.0, 3.0)),
    ((5, 3), (at(0, 2),), values(2, 3)),
    ((5, 3), (ALL, at(0, 2, 2)), at(1.0, 2.0, 3.0)),
    ((5, 3), (at(0, 2), at(1, 1)), at(1.0, 2.0)),
    ((5, 3), (np.array([[0], [2]]), at(1, 0)), values(2, 2)),
    ((5, 3), (at(0, 2), 1), at(1.0, 2.0)),
    ((5, 3, 4), (at(0, 2), ALL, at(1, 1)), values(2, 3)),
    ((5, 3, 4), (slice(1, 4), at(0, 2), at(1, 1)), values(3, 2)),
    ((5, 3, 4), (slice(None, None, -2), np.array(1), np.array(2)), values(3)),
    ((5, 3, 4), (None, 2, at(1, 0)), values(2, 4)),
    ((5, 3, 4), (..., at(1, 0)), at(1.0, 2.0)),
    ((5,), (MASK,), 7.0),
    ((5,), (MASK,), at(1.0, 2.0, 3.0)),
    ((5,), (MASK,), at(1.0)),
    ((5,), (~MASK & MASK,), np.zeros(0)),
    ((5, 3), (MASK,), at(1.0, 2.0, 3.0)),
    ((5, 3), (MASK,), values(3, 3)),
    ((5, 3), (MASK,), values(3, 1)),
    ((5, 3), (MASK, slice(0, 2)), values(3, 2)),
    ((5, 3), (MASK, 1), values(3)),
    ((5, 3), (MASK, None), values(3, 1, 3)),
    ((2, 5), (ALL, MASK), values(2, 3)),
    ((2, 5), (ALL, MASK), values(2, 1)),
    ((2, 5), (1, MASK), values(3)),
    ((2, 5), (..., MASK), values(3)),
    ((4, 3), (GRID,), values(5)),
    ((4, 3), (GRID,), 2.0),
    ((4, 3, 2), (GRID,), values(5, 2)),
]
BAD = [
    ((5,), (at(0, 5),), 7.0, OutOfRangeError),
    ((5, 3), (at(0, 1), at(0, -4)), 7.0, OutOfRangeError),
    ((5,), (at(0, 1),), at(1.0, 2.0, 3.0), ValueError),
    ((5,), (MASK,), at(1.0, 2.0), ValueError),
    ((5,), (MASK,), np.zeros(0), ValueError),
    ((5, 3), (ALL, MASK), 7.0, OutOfRangeError),
    ((4,), (MASK,), 7.0, OutOfRangeError),
]


def outcome(decorate, shape, key, value, how):
    v = tj.Variable(np.arange(np.prod(shape), dtype=np.float64).reshape(shape))

    def f(value, arrays):
        given = iter(arrays)
        k = tuple([next(given) if isinstance(c, np.ndarray) else c for c in key])
        getattr(v[k if len(k) > 1 else k[0]], how)(value)
        return v * 1

    arrays = [tj.constant(c) for c in key if isinstance(c, np.ndarray)]
    before = v.numpy()
    try:
        y = decorate(f)(tj.constant(value) if isinstance(value, np.ndarray) else value, arrays).numpy()
    except Exception:
        np.testing.assert_array_equal(before, v.numpy())
        raise
    np.testing.assert_array_equal(y, v.numpy())
    return y


@pytest.mark.parametrize("how", ["assign", "assign_add", "assign_sub"])
@pytest.mark.parametrize("case", range(len(GOOD)))
def test_assignments_traced_as_eagerly(case, how):
    want = outcome(lambda f: f, *GOOD[case], how)
    got = outcome(tj.function, *GOOD[case], how)
    np.testing.assert_array_equal(want, got)


@pytest.mark.parametrize("how", ["assign", "assign_add"])
@pytest.mark.parametrize("case", range(len(BAD)))
def test_assignments_that_do_not_fit_change_nothing(case, how):
    *args, kind = BAD[case]
    for decorate in (lambda f: f, tj.function):
        with pytest.raises(kind):
            outcome(decorate, *args, how)


def test_dtypes_of_assigned_values():
    v = tj.Variable(np.zeros(5, np.int8))
    f = tj.function(lambda k, x: v[k].assign(x))
    for key in (tj.constant(at(0, 1)), tj.constant(MASK), tj.constant(2)):
        f(key, 3)
        with pytest.raises(TypeError):
            f(key, 2.5)
        with pytest.raises(TypeError):
            f(key, 300)
    assert v.numpy().tolist() == [3, 3, 3, 3, 0]


def test_a_slice_by_a_traced_mask_is_only_assigned():
    v = tj.Variable(np.zeros(5, np.float32))
    for use in (lambda m: v[m] + 1, lambda m: v[m], lambda m: tj.reduce_sum(v[m]), lambda m: v[m].shape):
        with pytest.raises(TracedValueError, match="depends on the values of a traced mask"):
            tj.function(use)(tj.constant(MASK))
    with pytest.raises(ArgumentError, match="mask"):
        tj.function(lambda m, i: tj.Variable.__getitem__(w, (m, i)).assign(1.0))(tj.constant(MASK), tj.constant(at(0)))


w = tj.Variable(np.zeros((5, 2), np.float32))


def test_indices_and_masks_that_are_variables():
    v, i, m = tj.Variable(np.zeros(5)), tj.Variable(at(1, 3)), tj.Variable(MASK)

    @tj.function
    def f():
        v[i].assign(2.0)
        v[m].assign_add(1.0)
        i.assign(i + 1)
        return v[i]

    assert f().numpy().tolist() == [1, 0]
    assert v.numpy().tolist() == [1, 2, 1, 3, 0]
    i.assign([0, 4])
    with pytest.raises(OutOfRangeError):
        f()
    assert i.numpy().tolist() == [0, 4]


def test_other_sizes_use_the_same_trace():
    v = tj.Variable(np.zeros(9, np.float32))

    @tj.function(input_signature=[tj.TensorSpec((None,), tj.int64), tj.TensorSpec((None,))])
    def f(i, x):
        v[i].assign(x)
        return v * 1

    for n in (2, 5, 9):
        want = np.zeros(9)
        v.assign(want)
        want[::-1][:n] = np.arange(n)
        assert f(np.arange(9)[::-1][:n].copy(), np.arange(n, dtype=np.float32)).numpy().tolist() == want.tolist()
    assert f.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("how", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("axis,i", [(0, at(0, 2, 0)), (1, np.array([[1, 0]])), (1, np.array(1))])
def test_gradients_of_put(how, axis, i):
    """What is overwritten has no gradient: neither the old element, nor the earlier of two values at one place."""
    x = tj.constant(values(3, 2))
    v = tj.constant(values(*np.take(x.numpy(), i, axis=axis).shape))
    weights = values(3, 2)

    def put(x, v):
        return OPS["put"](x, wrap(i), v, axis=axis)

    def gradient(x, v):
        with tj.GradientTape() as tape:
            tape.watch([x, v])
            y = tj.reduce_sum(put(x, v) ** 2 * weights)
        return tape.gradient(y, [x, v])

    got = how(gradient)(x, v)
    for k, (a, g) in enumerate(zip((x.numpy(), v.numpy()), got)):
        want = np.zeros(a.shape)
        for where in np.ndindex(*a.shape):
            ends = []
            for h in (1e-6, -1e-6):
                moved = [x.numpy().copy(), v.numpy().copy()]
                moved[k][where] += h
                ends.append(float(np.sum(put(*map(wrap, moved)).numpy() ** 2 * weights)))
            want[where] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(g, want, atol=1e-6)
    np.testing.assert_allclose(jvp(put, (x, v), (x, v))[1], put(x, v), rtol=1e-12)
