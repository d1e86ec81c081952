"""Conditions that a running program checks: what they say, that they leave Variables alone, that none gets lost."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.backends import numba_source
from tracejit.errors import ArgumentError, CompileWarning, OutOfRangeError
from tracejit.ir.op import OPS
from tracejit.ir.text import parse
from tracejit.lower.program import Program

X = np.arange(3, dtype=np.float32)
M = np.arange(6, dtype=np.float32).reshape(2, 3)


def failure(f, *args):
    with pytest.raises(Exception) as caught:
        f(*args)
    return caught.value


def checks(f, *args, stage="optimized"):
    return [n for n in f.graph(*args, stage=stage).nodes if n.op.name == "check"]


INDEXED = {
    "x[i]": (lambda x, i: x[i], M, 1, 2),
    "x[-i]": (lambda x, i: x[i], M, -2, -3),
    "x[array]": (lambda x, i: x[i], M, [0, 1, -2], [0, 2, 5]),
    "x[:, array]": (lambda x, i: x[:, i], M, [0, -3], [0, -4]),
    "x[array, array]": (lambda x, i: x[i, i + 1], M, [0, 1], [0, 2]),
    "x[uint8]": (lambda x, i: x[tj.cast(i, tj.uint8)], X, [2, 0], [3, 200]),
    "x[int8] of a long axis": (lambda x, i: tj.tile(x, (100,))[tj.cast(i, tj.int8)], X, [2, -100], None),
    "gather": (lambda x, i: tj.gather(x, i), M, [1, 0], [0, 2]),
    "gather along an axis": (lambda x, i: tj.gather(x, i, axis=1), M, [1, 2], [0, 3]),
    "gather in batches": (lambda x, i: tj.gather(x, i, axis=1, batch_dims=1), M, [1, 2], [0, 3]),
    "gather_nd": (lambda x, i: tj.gather_nd(x, i), M, [[1, 2]], [[1, 3]]),
    "scatter_nd": (lambda x, i: tj.scatter_nd(i, x, (4,)), X, [[0], [0], [3]], [[0], [1], [4]]),
    "tensor_scatter_nd_update": (
        lambda x, i: tj.tensor_scatter_nd_update(x, i, [7.0]), X, [[2]], [[3]],
    ),
    "unsorted_segment_sum": (lambda x, i: tj.math.unsorted_segment_sum(x, i, 2), X, [0, 1, 1], [0, 1, 2]),
    "np.take_along_axis": (lambda x, i: np.take_along_axis(x, i, 1), M, [[1], [2]], [[0], [3]]),
    "labels": (
        lambda x, i: tj.nn.sparse_softmax_cross_entropy_with_logits(i, x), M, [0, 2], [0, 3],
    ),
    "negative labels": (
        lambda x, i: tj.nn.sparse_softmax_cross_entropy_with_logits(i, x), M, [0, 2], [-1, 2],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INDEXED)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_positions_out_of_range_raise_eagerly_and_traced(name, dtype):
    f, x, good, bad = INDEXED[name]
    x, good = tj.constant(x), tj.constant(np.array(good, dtype))
    traced = tj.function(f)
    np.testing.assert_allclose(traced(x, good), f(x, good), rtol=1e-6)
    if bad is None:
        return
    bad = tj.constant(np.array(bad, dtype))
    eager = failure(f, x, bad)
    for _ in range(2):
        e = failure(traced, x, bad)
        assert type(e) is type(eager) is OutOfRangeError
        assert isinstance(e, IndexError)
        assert "test_checks.py" in str(e)
        assert len(str(e).splitlines()) <= 12
    np.testing.assert_allclose(traced(x, good), f(x, good), rtol=1e-6)
    assert traced.experimental_get_tracing_count() == 1


def test_the_message_names_index_axis_size_and_line():
    @tj.function
    def f(x, i):
        y = x * 2
        return y[:, i]

    text = str(failure(f, M, np.array([0, 7, 1])))
    assert "index 7 is outside axis 1 of size 3" in text
    assert "return y[:, i]" in text
    assert "label -5 is not one of 3 classes" in str(
        failure(tj.function(tj.nn.sparse_softmax_cross_entropy_with_logits), np.array([0, -5]), M)
    )


def test_sizes_that_differ_from_call_to_call():
    f = tj.function(lambda x, i: x[i], input_signature=[tj.TensorSpec((None,)), tj.TensorSpec((), tj.int32)])
    for n in (3, 5, 9):
        assert float(f(np.arange(n, dtype=np.float32), n - 1)) == n - 1
        assert f"outside axis 0 of size {n}" in str(failure(f, np.arange(n, dtype=np.float32), n))
    assert f.experimental_get_tracing_count() == 1


def test_positions_that_are_known_are_checked_while_tracing():
    f = tj.function(lambda x: x[[0, 2]] + x[[1, -3]])
    assert f(X).numpy().tolist() == [1, 2]
    assert not checks(f, X)
    e = failure(tj.function(lambda x: x[[0, 3]]), X)
    assert isinstance(e, OutOfRangeError)


def test_positions_among_which_some_are_symbolic_sizes():
    signature = [tj.TensorSpec((9,)), tj.TensorSpec((None,))]
    f = tj.function(lambda x, y: x[tj.stack([0, y.shape[0]])], input_signature=signature)
    x = np.arange(9, dtype=np.float32)
    for n in (2, 8):
        assert f(x, np.zeros(n, np.float32)).numpy().tolist() == [0, n]
    assert isinstance(failure(f, x, np.zeros(9, np.float32)), OutOfRangeError)
    assert f.experimental_get_tracing_count() == 1


def test_positions_that_ops_keep_in_range_need_no_check():
    f = tj.function(lambda x: (tj.sort(x), tj.math.top_k(x, 2)[0], tj.gather(x, tj.argmax(x))))
    assert [t.numpy().tolist() for t in f(X[::-1].copy())] == [[0, 1, 2], [2, 1], 2]
    assert not checks(f, X)


def test_the_same_positions_are_checked_once():
    f = tj.function(lambda x, y, i: (x[i], x[i] + y[i], tj.gather(x, i)))
    assert len(checks(f, X, X, np.array([0, 1]))) == 1


# --- Variables --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["assign", "assign_add", "assign_sub"])
@pytest.mark.parametrize("key", ["i", "array", "i, array"])
def test_a_refused_position_leaves_every_variable(how, key):
    v, w, big = tj.Variable(M), tj.Variable(1.0), tj.Variable(np.zeros(1000, np.float32))

    @tj.function
    def f(i, x):
        w.assign_add(1.0)
        big.assign(big * 2 + x)
        at = {"i": i, "array": tj.stack([i, i]), "i, array": (0, tj.stack([i]))}[key]
        getattr(v[at], how)(x)
        big.assign_add(tj.ones((1000,)))
        return big + w

    f(tj.constant(1), 2.0)
    before = v.numpy(), w.numpy(), big.numpy()
    for bad in (5, -4):
        e = failure(f, tj.constant(bad), 2.0)
        assert isinstance(e, OutOfRangeError)
        assert f"index {bad} " in str(e)
        assert "getattr(v[at], how)(x)" in str(e)
        for a, b in zip(before, (v, w, big)):
            np.testing.assert_array_equal(a, b.numpy())
    f(tj.constant(0), 2.0)
    assert float(w) == 3.0


def test_a_refused_position_under_a_tape():
    v, w = tj.Variable(X), tj.Variable(2.0)

    @tj.function
    def f(x, i):
        v.assign_add(x)
        return tj.reduce_sum(tj.gather(x * w, i))

    x = tj.constant(X)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x, tj.constant([1, 1]))
    gx, gw = tape.gradient(y, [x, w])
    assert gx.numpy().tolist() == [0, 4, 0]
    assert float(gw) == 2.0
    with tj.GradientTape() as tape:
        tape.watch(x)
        assert isinstance(failure(f, x, tj.constant([1, 3])), OutOfRangeError)
    assert v.numpy().tolist() == (X * 2).tolist()


# --- the op -----------------------------------------------------------------------------------------------------------
def positive(x):
    OPS["check"](tj.reduce_all(x > 0), x, error="ArgumentError", message="not all of {} are positive")
    return tj.sqrt(x)


def test_a_check_in_eager_mode():
    assert positive(tj.constant([4.0])).numpy().tolist() == [2]
    e = failure(positive, tj.constant([-1.0, 4.0]))
    assert isinstance(e, ArgumentError)
    assert "not all of [-1.  4.] are positive" in str(e)


def test_checks_are_neither_merged_nor_dropped():
    @tj.function
    def f(x):
        positive(x)
        positive(x)
        positive(x + 1)
        return tj.constant(1.0)

    x = tj.constant([1.0, 2.0])
    assert float(f(x)) == 1.0
    for stage in ("traced", "optimized", "prepared"):
        assert len(checks(f, x, stage=stage)) == 3
    assert isinstance(failure(f, tj.constant([1.0, -2.0])), ArgumentError)
    assert float(f(x)) == 1.0


def test_a_check_whose_condition_folds():
    @tj.function
    def f(x, size):
        OPS["check"](tj.constant(size) < 3, tj.constant(size), error="ArgumentError", message="{} is too many")
        return x + 1

    assert f(X, np.int32(2)).numpy().tolist() == [1, 2, 3]
    assert "5 is too many" in str(failure(f, X, np.int32(5)))
    g = tj.function(lambda x: (f.python_function(x, np.array(5, np.int32)), x)[1])
    assert "5 is too many" in str(failure(g, X))


def test_what_happens_before_a_check_is_not_seen():
    """Checks come before Variables are written, in whatever order the program has them."""
    v = tj.Variable(np.ones(50_000, np.float32))

    @tj.function
    def f(x):
        v.assign(v * x)
        total = tj.reduce_sum(v)
        OPS["check"](total < 1e6, total, error="ArgumentError", message="{} is too large")
        v.assign_add(v)
        return total

    assert float(f(2.0)) == 100_000
    assert "2e+07" in str(failure(f, 100.0)) or "20000000" in str(failure(f, 100.0))
    assert v.numpy()[0] == 4.0


def test_checks_inside_the_gradient():
    @tj.custom_gradient
    def cube(x):
        def back(g):
            OPS["check"](tj.reduce_all(g < 10), g, error="ArgumentError", message="a steep {}")
            return 3 * x * x * g

        return x**3, back

    f = tj.function(lambda x, k: tj.reduce_sum(cube(x) * k))
    x = tj.constant([1.0, 2.0])
    for k, fine in ((2.0, True), (20.0, False), (2.0, True)):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x, k)
        if fine:
            assert tape.gradient(y, x).numpy().tolist() == [6, 24]
        else:
            assert "a steep" in str(failure(tape.gradient, y, x))


def test_checks_in_the_interpreter(monkeypatch):
    def broken(self):
        raise RuntimeError("no units")

    monkeypatch.setattr(tj.config, "check", False)
    monkeypatch.setattr(Program, "_units", broken)
    v = tj.Variable(X)

    @tj.function
    def f(i):
        v[i].assign(7.0)

    with pytest.warns(CompileWarning):
        f(tj.constant(1))
    e = failure(f, tj.constant(4))
    assert "index 4 is outside axis 0 of size 3" in str(e)
    assert "v[i].assign(7.0)" in str(e)
    assert v.numpy().tolist() == [0, 7, 2]


def test_checks_in_text_and_source():
    f = tj.function(lambda x, i: x[i] * 2)
    i = np.array([0, 2])
    g = f.graph(X, i, stage="traced")
    assert str(parse(str(g))) == str(g)
    source = f.source(X, i)
    assert "raise IndexError(" in source
    c = f.get_concrete_function(X, i)
    assert numba_source.run(c, [X, i], compiled=False)[0][0].tolist() == [0, 4]
    with pytest.raises(IndexError, match="index 3 is outside axis 0 of size 3"):
        numba_source.run(c, [X, i + 1], False)


def test_a_label_out_of_range_in_training():
    w = tj.Variable(np.zeros((3, 4), np.float32))

    @tj.function
    def step(x, y):
        with tj.GradientTape() as tape:
            loss = tj.reduce_mean(tj.nn.sparse_softmax_cross_entropy_with_logits(y, x @ w))
        w.assign_sub(tape.gradient(loss, w))
        return loss

    step(M, np.array([0, 3]))
    before = w.numpy()
    assert isinstance(failure(step, M, np.array([0, 4])), OutOfRangeError)
    np.testing.assert_array_equal(before, w.numpy())


@pytest.mark.parametrize("y", [-1, np.array([1, -2]), tj.constant([-1, 3]), tj.constant(-5, tj.int64)], ids=str)
@pytest.mark.parametrize("run", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_negative_powers_of_integers_are_refused(run, y):
    x = tj.constant([2, 3])
    with pytest.raises(tj.errors.ArgumentError, match="negative power of integers"):
        run(lambda x, y: x**y)(x, y)
    with pytest.raises(tj.errors.ArgumentError, match="negative power of integers"):
        run(lambda y: tj.pow(2, y))(tj.convert_to_tensor(y))
    assert run(lambda x, y: x**y)(tj.cast(x, tj.float64), y).dtype is tj.float64


def test_powers_of_integers_that_may_be_negative_are_looked_at_when_the_program_runs():
    f = tj.function(lambda x, y: x**y)
    x = tj.constant([2, 3])
    np.testing.assert_array_equal(f(x, tj.constant([3, 0])), [8, 1])
    with pytest.raises(tj.errors.ArgumentError, match="negative power of integers"):
        f(x, tj.constant([3, -1]))
    assert f.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("outer", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("position", [2**63, 2**64 - 1, 2**64 - 3])
@pytest.mark.parametrize(
    "f",
    [
        lambda x, i: tj.gather(x, i), lambda x, i: tj.gather_nd(x, i[:, None]), lambda x, i: x[i],
        lambda x, i: x[i[1]], lambda x, i: tj.gather(x[None], i, axis=1),
    ],
    ids=["gather", "gather_nd", "index", "one", "axis"],
)  # fmt: skip
def test_unsigned_positions_that_no_signed_integer_holds(f, position, outer):
    """They are outside of every axis, and none of them stands for a position from the end."""
    x, i = tj.constant([1.0, 2.0, 3.0]), tj.constant(np.array([1, position], np.uint64))
    with pytest.raises(tj.errors.OutOfRangeError, match=f"index {position} is out"):
        outer(f)(x, i)
    assert outer(f)(x, tj.constant(np.array([1, 2], np.uint64))).numpy().ravel()[-1] == 3.0


def test_unsigned_positions_of_assigned_elements():
    v = tj.Variable([1.0, 2.0, 3.0])
    for i in (np.array([2**64 - 1], np.uint64), tj.constant(np.array([2**64 - 1], np.uint64)), np.uint64(2**64 - 1)):
        with pytest.raises(tj.errors.OutOfRangeError, match=f"index {2**64 - 1} is out"):
            v[i].assign(5.0)
    assert v.numpy().tolist() == [1.0, 2.0, 3.0]
