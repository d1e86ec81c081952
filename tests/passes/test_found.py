"""What waits for a size that the program finds out keeps its place among the effects, and runs in the interpreter."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.config import config
from tracejit.errors import OutOfRangeError
from tracejit.passes.pipeline import optimize, prepare

X = np.array([1.0, -2.0, 3.0])


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    """Every pass is verified and compared with the interpreter."""
    monkeypatch.setattr(config, "check", True)


def made(f, *args):
    return prepare(optimize(tj.function(f).graph(*args), arrays=args), arrays=args)


def test_what_is_printed_later_is_printed_later(capsys):
    def f(x, i):
        tj.print("first", i)
        tj.print("second", x[x > 0])
        tj.print("third", i)
        return i + 1

    traced = tj.function(f)
    for x in (X, X[:2], X):
        assert int(traced(tj.constant(x), tj.constant(1))) == 2
        lines = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
        assert lines == ["first", "second", "third"]


def test_of_two_faults_the_first_is_raised():
    def late_then_known(x, i):
        return x[x > 0][i], x[i + 1]

    def known_then_late(x, i):
        return x[i + 1], x[x > 0][i]

    for f, why in ((late_then_known, "index 5 .* size 2"), (known_then_late, "index 6 .* size 3")):
        with pytest.raises(OutOfRangeError, match=why):
            tj.function(f)(tj.constant(X), tj.constant(5))


def test_an_effect_between_two_that_wait_waits_too():
    def f(x, i):
        y = x[x > 0]
        return y[i] + x[i] + y[i - 1]

    graph = made(f, X, np.int32(1))
    assert [n.op.name for n in graph.nodes if not n.pure] == ["sized"]
    assert graph.run([X, np.int32(1)])[0] == 3.0 - 2.0 + 1.0
    for i, why in ((2, "index 2 .* size 2"), (-2, "index -3 .* size 2")):
        with pytest.raises(OutOfRangeError, match=why):
            tj.function(f)(tj.constant(X), tj.constant(i))


def test_effects_around_what_waits_stay_outside():
    def f(x, i):
        return x[i], tj.reduce_sum(x[x > 0]), x[x > 0][i], x[i + 1]

    graph = made(f, X, np.int32(1))
    assert [n.op.name for n in graph.nodes if not n.pure] == ["check", "sized", "check"]
    np.testing.assert_array_equal(np.stack(graph.run([X, np.int32(1)])), [-2.0, 4.0, 3.0, 3.0])


def test_sizes_one_from_another():
    """A size that depends on what waits for another one is told among what waits, or after it."""

    def f(x):
        y = x[x > 0]
        z = y[y < tj.reduce_sum(y) - 1.0]
        return tj.range(tj.shape(z)[0]), z * 2.0, tj.shape(y)[0]

    for x in (X, X[1:2], np.arange(-2.0, 6.0)):
        y = x[x > 0]
        z = y[y < y.sum() - 1.0]
        want = np.arange(len(z)), z * 2.0, len(y)
        for got in (made(f, x).run([x]), tj.function(f)(tj.constant(x))):
            for a, b in zip(got, want, strict=True):
                np.testing.assert_array_equal(np.asarray(a), b)


def test_loops_beside_what_waits():
    def f(x, n):
        ta = tj.TensorArray(tj.float64, size=n, clear_after_read=False).write(0, x[0])
        for i in tj.range(1, n):
            ta = ta.write(i, ta.read(i - 1) * 0.5 + 1.0)
        return ta.stack(), ta.read(n - 1)

    rows, last = made(f, X, np.int32(4)).run([X, np.int32(4)])
    np.testing.assert_array_equal(rows, [1.0, 1.5, 1.75, 1.875])
    assert last == rows[-1]
    rows, last = tj.function(f)(tj.constant(X), tj.constant(4))
    np.testing.assert_array_equal(np.asarray(rows), [1.0, 1.5, 1.75, 1.875])


def test_what_waits_is_told_the_open_sizes_that_it_needs():
    """By the argument that has them as axes, or in a region that has no such value by lines as long as they are."""

    def f(x):
        flat = tj.reshape(x, (-1,))
        return tj.boolean_mask(flat, flat > 0)[:, None] * flat[None, :]

    def g(x):
        flat = tj.reshape(x, (-1,)) * 2.0
        return tj.cond(tj.reduce_sum(x) > 0, lambda: tj.reduce_sum(f(flat)), lambda: 0.0)

    x = np.arange(-2.0, 4.0).reshape(2, 3)
    signature = [tj.TensorSpec([None, None], tj.float64)]
    graph = prepare(optimize(tj.function(f, input_signature=signature).graph(x)))
    (part,) = [n for n in graph.nodes if n.op.name == "sized"]
    assert graph.params[0] in part.inputs
    graph = prepare(optimize(tj.function(g, input_signature=signature).graph(x)))
    (branch,) = [n.attr("then") for n in graph.nodes if n.op.name == "cond"]
    assert [str(n.out.shape[0]) for n in branch.nodes if n.op.name == "iota"] == ["d0_0", "d0_1"]
    for h in (f, g):
        want = h(tj.constant(x))
        np.testing.assert_allclose(tj.function(h, input_signature=signature, strict=True)(x), want)
