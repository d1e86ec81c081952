"""Gradients as rows, and rows of Variables changed in place: `IndexedSlices` and the `scatter_*` methods."""

import numpy as np
import pytest

import tracejit as tj

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(6, 3)).astype(np.float32)
AT = np.array([1, 3, 1, -1])


def gradient(v, f):
    with tj.GradientTape() as tape:
        loss = f(v)
    return tape.gradient(loss, v)


def squares(v):
    return tj.reduce_sum(tj.gather(v, AT) ** 2)


def dense_of(i, rows, shape=(6, 3)):
    out = np.zeros(shape, np.float32)
    np.add.at(out, i, rows)
    return out


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_the_gradient_of_rows_is_rows(wrap):
    v = tj.Variable(TABLE)
    g = wrap(lambda: gradient(v, squares))()
    assert isinstance(g, tj.IndexedSlices)
    assert g.indices.numpy().tolist() == AT.tolist()
    assert (g.shape, g.dtype, g.ndim) == ((6, 3), tj.float32, 2)
    np.testing.assert_allclose(g.values.numpy(), 2 * TABLE[AT])
    expected = dense_of(AT, 2 * TABLE[AT])
    np.testing.assert_allclose(tj.convert_to_tensor(g).numpy(), expected)
    np.testing.assert_allclose(g.numpy(), expected)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_several_reads_are_joined(wrap):
    v = tj.Variable(TABLE)
    i = np.array([[0, 5], [2, 2]], np.int64)
    g = wrap(lambda: gradient(v, lambda v: squares(v) + 3.0 * tj.reduce_sum(tj.gather(v, i))))()
    assert g.values.shape == (8, 3)
    np.testing.assert_allclose(g.numpy(), dense_of(AT, 2 * TABLE[AT]) + dense_of(i.ravel(), 3.0), rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_gradients_that_are_not_only_rows_are_dense(wrap):
    v, expected = tj.Variable(TABLE), dense_of(AT, 2 * TABLE[AT])
    g = wrap(lambda: gradient(v, lambda v: squares(v) + tj.reduce_sum(v)))()
    assert isinstance(g, tj.Tensor)
    np.testing.assert_allclose(g.numpy(), expected + 1.0, rtol=1e-6)

    def of_tensor(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = squares(x)
        return tape.gradient(y, x)

    assert isinstance(wrap(of_tensor)(tj.constant(TABLE)), tj.Tensor)

    def second():
        with tj.GradientTape() as outer:
            g = gradient(v, squares)
            s = tj.reduce_sum(g * g)
        return outer.gradient(s, v)

    # the sum over r of (n_r · 2 v_r)², where row r is read n_r times
    count = np.bincount(AT % 6, minlength=6)[:, None]
    np.testing.assert_allclose(np.asarray(wrap(second)()), 8 * count**2 * TABLE, rtol=1e-6)


def test_arithmetic_with_rows():
    s = tj.IndexedSlices(np.ones((2, 2), np.float32), [1, 1], (3, 2))
    for y in (s * 2.0, 2 * s, tj.constant(2.0) * s, np.float32(2) * s, s * np.float32(2), s / 0.5, -(-2.0 * s)):
        assert isinstance(y, tj.IndexedSlices)
        assert y.values.numpy().tolist() == [[2.0, 2.0], [2.0, 2.0]]
    dense = np.array([[0, 0], [2, 2], [0, 0]], np.float32)
    t = tj.constant(TABLE[:3, :2])
    for y, expected in [
        (s + 1.0, dense + 1), (t - s, t.numpy() - dense), (s * t, dense * t.numpy()), (tj.add(s, s), 2 * dense),
        (np.add(s, 1.0), dense + 1), (tj.reduce_sum(s), 4.0), (s[1], dense[1]), (np.sum(s), 4.0),
    ]:  # fmt: skip
        np.testing.assert_allclose(np.asarray(y), expected)
    clipped, norm = tj.clip_by_global_norm([s, None, tj.constant([3.0])], 1.0)
    assert isinstance(clipped[0], tj.IndexedSlices)
    assert float(norm) == pytest.approx(np.sqrt(13))
    np.testing.assert_allclose(clipped[0].values.numpy(), 1 / np.sqrt(13), rtol=1e-6)


def test_rows_that_do_not_fit():
    with pytest.raises(tj.errors.ShapeError, match="do not go with"):
        tj.IndexedSlices([1.0], [0, 1])
    with pytest.raises(tj.errors.ShapeError, match="none of shape"):
        tj.IndexedSlices([[1.0]], [0], (3, 2))
    with pytest.raises(tj.errors.DTypeError, match="integers"):
        tj.IndexedSlices([[1.0]], [0.0])
    with pytest.raises(tj.errors.ArgumentError, match="dense_shape"):
        tj.convert_to_tensor(tj.IndexedSlices([1.0], [0]))


def train(v, i, n):
    loss = tj.constant(0.0)
    for _ in tj.range(n):
        with tj.GradientTape() as tape:
            loss = tj.reduce_sum(tj.gather(v, i) ** 2)
        g = tape.gradient(loss, v)
        v.assign_sub(0.1 * g)
    return loss


def test_a_step_makes_no_dense_gradient():
    v, w = tj.Variable(TABLE), tj.Variable(TABLE)

    @tj.function
    def step(i):
        g = gradient(v, lambda v: tj.reduce_sum(tj.gather(v, i) ** 2))
        v.assign_sub(0.1 * g)
        return tj.constant(0)

    step(tj.constant(AT))
    text = str(step.graph(tj.constant(AT)))
    assert "add_at" in text
    assert "scatter_sum" not in text
    w.assign_sub(tj.convert_to_tensor(0.1 * gradient(w, squares)))
    np.testing.assert_allclose(v.numpy(), w.numpy(), rtol=1e-6)


def test_steps_in_a_loop():
    v, w = tj.Variable(TABLE), tj.Variable(TABLE)
    traced = tj.function(lambda i, n: train(v, i, n), strict=True)
    assert float(traced(tj.constant(AT), tj.constant(3))) == pytest.approx(float(train(w, AT, 3)), rel=1e-6)
    np.testing.assert_allclose(v.numpy(), w.numpy(), rtol=1e-5)


def test_rows_that_a_loop_carries():
    @tj.function(strict=True)
    def f(x, n):
        s = tj.IndexedSlices(x, [0, 2], (4,))
        for _ in tj.range(n):
            s = s * 2.0
        return s

    s = f(tj.constant([1.0, 2.0]), tj.constant(3))
    assert (type(s), s.dense_shape) == (tj.IndexedSlices, (4,))
    assert s.numpy().tolist() == [8.0, 0.0, 16.0, 0.0]
    again = tj.function(lambda s: tj.convert_to_tensor(s) + 1.0)
    assert again(s).numpy().tolist() == [9.0, 1.0, 17.0, 1.0]


UFUNCS = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "min": np.minimum, "max": np.maximum}


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("how", ["update", *UFUNCS])
def test_scatter_methods(how, wrap):
    v, i = tj.Variable(TABLE), np.array([4, 0, -1] if how == "update" else [4, 0, 4, -1])
    rows = RNG.uniform(0.5, 2.0, (len(i), 3)).astype(np.float32)
    expected = TABLE.copy()
    if how == "update":
        expected[i] = rows
    else:
        UFUNCS[how].at(expected, i, rows)
    wrap(lambda: getattr(v, f"scatter_{how}")(tj.IndexedSlices(rows, i)))()
    np.testing.assert_allclose(v.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("how", ["update", "add", "sub", "min", "max"])
def test_scatter_nd_methods(how, wrap):
    for at, shape in ((np.array([[1], [3]]), (2, 3)), (np.array([[1, 2], [3, -1], [0, 0]]), (3,))):
        v, u = tj.Variable(TABLE), RNG.normal(size=shape).astype(np.float32)
        expected = TABLE.copy()
        if how == "update":
            expected[tuple(at.T)] = u
        else:
            UFUNCS[how].at(expected, tuple(at.T), u)
        wrap(lambda v=v, at=at, u=u: getattr(v, f"scatter_nd_{how}")(at, u))()
        np.testing.assert_allclose(v.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_other_methods_by_number(wrap):
    v = tj.Variable(np.zeros((2, 3, 2), np.float32))
    u = RNG.normal(size=(2, 2, 2)).astype(np.float32)
    wrap(lambda: v.batch_scatter_update(tj.IndexedSlices(u, [[0, 2], [1, 0]])))()
    np.testing.assert_array_equal(v.numpy()[0, [0, 2]], u[0])
    np.testing.assert_array_equal(v.numpy()[1, [1, 0]], u[1])
    np.testing.assert_array_equal(wrap(lambda: v.sparse_read([1]))().numpy(), v.numpy()[[1]])
    np.testing.assert_array_equal(wrap(lambda: v.gather_nd([[1, 0]]))().numpy(), v.numpy()[1, 0][None])


def test_what_the_methods_refuse():
    v, n = tj.Variable(TABLE), tj.Variable([1, 2])
    with pytest.raises(tj.errors.OutOfRangeError, match="index 6"):
        v.scatter_add(tj.IndexedSlices(TABLE[:1], [6]))
    with pytest.raises(tj.errors.OutOfRangeError, match="index 6"):
        tj.function(lambda i: v.scatter_add(tj.IndexedSlices(TABLE[:1], i)))(tj.constant([6]))
    with pytest.raises(tj.errors.ArgumentError, match=r"takes tj\.IndexedSlices"):
        v.scatter_sub([1.0])
    with pytest.raises(tj.errors.ShapeError, match="updates"):
        v.scatter_add(tj.IndexedSlices(TABLE[:1, :2], [0]))
    with pytest.raises(tj.errors.DTypeError, match="precision"):
        n.scatter_add(tj.IndexedSlices([1.5], [0]))
    with pytest.raises(tj.errors.DTypeError, match="quotient"):
        n.scatter_div(tj.IndexedSlices([2], [0]))
    np.testing.assert_array_equal(v.numpy(), TABLE)


def test_in_place_only_where_nobody_else_looks():
    v = tj.Variable(TABLE)
    array = v._a
    address = array.ctypes.data
    del array
    v.scatter_add(tj.IndexedSlices(TABLE[:1], [0]))
    assert v._a.ctypes.data == address
    with tj.GradientTape() as tape:
        y = tj.reduce_sum(v * v)
    before = v.numpy()
    v.scatter_add(tj.IndexedSlices(TABLE[:1], [0]))
    np.testing.assert_allclose(tape.gradient(y, v).numpy(), 2 * before)
    held = v._a
    v.scatter_update(tj.IndexedSlices(TABLE[1:2], [0]))
    assert held is not v._a


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_norms_of_rows_count_each_row_for_itself(wrap):
    def norms(values, indices):
        rows = tj.IndexedSlices(values, indices, (4, 1))
        clipped, size = tj.clip_by_global_norm([rows], 1.0)
        return tj.linalg.global_norm([rows, None]), size, clipped[0], tj.clip_by_norm(rows, 1.5)

    values, indices = tj.constant([[1.0], [2.0], [2.0]]), tj.constant([0, 3, 3])
    first, second, clipped, alone = wrap(norms)(values, indices)
    assert (float(first), float(second)) == (3, 3)
    for got, factor in ((clipped, 1 / 3), (alone, 1 / 2)):
        assert isinstance(got, tj.IndexedSlices)
        np.testing.assert_allclose(got.values, values.numpy() * factor, rtol=1e-6)
        assert got.indices.numpy().tolist() == [0, 3, 3]
