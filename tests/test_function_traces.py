"""Traces of a decorated function: what it captures, when it is traced anew, signatures, graphs, memory."""

import gc
import inspect
import itertools
import re
import weakref

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, ShapeError, TracedValueError
from tracejit.lower import compiler

X = np.array([1, 2, 3], np.float32)


def traces(f):
    return f.experimental_get_tracing_count()


# --- what is captured -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [3, 50])
def test_captured_arrays_are_read_at_each_call(n):
    a = np.ones(n, np.float32)
    f = tj.function(lambda k: tj.reduce_sum(a) * k)
    assert float(f(2.0)) == 2 * n
    a[:] = 3
    assert float(f(2.0)) == 6 * n
    assert traces(f) == 1


def test_captured_tensors():
    large, small = tj.constant(np.arange(100.0)), tj.constant(2.0, tj.float64)
    f = tj.function(lambda x: x + tj.reduce_sum(large) * small)
    assert f(1.0).numpy() == 9901.0
    assert f(2.0).numpy() == 9902.0


def test_two_captures_of_one_array():
    a = np.arange(40.0)
    view = a[:20]
    f = tj.function(lambda: tj.reduce_sum(a) + tj.reduce_sum(view))
    assert float(f()) == 780 + 190
    a[0] = 10
    assert float(f()) == 790 + 200


# --- traces -----------------------------------------------------------------------------------------------------------
def test_kinds_of_arguments_have_traces_of_their_own():
    f = tj.function(lambda x: x + x)
    for x in (X, X.astype(np.float64), X.astype(np.int32), X.reshape(1, 3), X.reshape(3, 1), (X, X)):
        f(x)
        f(x)
    assert traces(f) == 6
    assert len(f.concrete_functions) == 6


def test_batch_sizes_share_one_compiled_program(monkeypatch):
    compiled = []
    real = compiler.compile_all
    monkeypatch.setattr(compiler, "compile_all", lambda s: compiled.append(len(s)) or real(s))
    w = tj.Variable(np.arange(12, dtype=np.float32).reshape(4, 3))

    @tj.function
    def f(x):
        h = tj.nn.relu(x @ w)
        return tj.reduce_mean(h, axis=0), tj.nn.softmax(h)

    for n in [5, 7, 2, 3, *range(2, 65)]:
        x = np.arange(n * 4, dtype=np.float32).reshape(n, 4) / (4 * n)
        mean, p = f(x)
        h = np.maximum(x @ w.numpy(), 0)
        np.testing.assert_allclose(mean, h.mean(0), rtol=1e-5)
        assert p.shape == (n, 3)
    assert traces(f) == 2
    assert sum(n > 0 for n in compiled) == 2


@pytest.mark.parametrize("sizes", [(0, 1, 2, 3), (1, 0, 5, 6), (3, 1, 2, 0), (2, 1, 4, 1, 0, 3)])
def test_no_elements_and_one(sizes):
    f = tj.function(lambda x: (tj.reduce_sum(x * 2, axis=0), x - tj.reduce_sum(x), tj.concat([x, x], 0)))
    for n in (*sizes, *sizes):
        x = np.arange(n * 3, dtype=np.float32).reshape(n, 3)
        a, b, c = f(x)
        assert a.numpy().tolist() == (2 * x).sum(0).tolist()
        assert b.numpy().tolist() == (x - x.sum()).tolist()
        assert c.shape == (2 * n, 3)
    assert traces(f) <= 4


def test_two_sizes_vary_independently():
    f = tj.function(lambda x, y: tj.reduce_sum(x) + tj.reduce_sum(y))
    for n, m in [(2, 2), (3, 3), (3, 4), (5, 2), (7, 6), (6, 6), (4, 9)]:
        assert float(f(np.ones(n), np.ones(m))) == n + m
    assert traces(f) <= 3


def test_sizes_that_must_be_equal_are_checked():
    f = tj.function(lambda x, y: x + y)
    for n in (2, 3, 4):
        assert f(np.ones(n), np.ones(n)).shape == (n,)
    with pytest.raises(ShapeError):
        f(np.ones(5), np.ones(6))
    assert f(np.ones(5), np.ones(1)).shape == (5,)


def test_sizes_as_numbers():
    @tj.function
    def f(x):
        n = x.shape[0]
        mean = tj.reduce_sum(x) / tj.cast(tj.shape(x)[0], tj.float32)
        return mean, n * 2, tj.zeros((n, 2)), tj.range(n), x[: n // 2]

    for n in (4, 6, 9, 2):
        mean, twice, zeros, line, half = f(np.arange(n, dtype=np.float32))
        assert float(mean) == (n - 1) / 2
        assert int(twice) == 2 * n
        assert zeros.shape == (n, 2)
        assert line.numpy().tolist() == list(range(n))
        assert half.shape == (n // 2,)
    assert traces(f) <= 3


def test_a_size_that_steers_python_is_traced_anew():
    @tj.function
    def f(x):
        total = x[0]
        for i in range(1, x.shape[0]):
            total = total + x[i]
        return total

    for n in (2, 3, 4, 3, 2):
        assert float(f(np.ones(n, np.float32))) == n
    assert traces(f) == 3


def test_a_comparison_of_sizes_is_a_guard():
    f = tj.function(lambda x: x * 2 if x.shape[0] > 4 else x * 3)
    for n in (2, 3, 4, 5, 6, 3, 7):
        assert f(np.ones(n, np.float32)).numpy()[0] == (2 if n > 4 else 3)
    assert traces(f) <= 4


def test_equality_of_sizes_is_a_guard():
    @tj.function
    def f(x, y):
        return (
            10.0
            if x.shape[0] == 6
            else 20.0
            if x.shape == (4,)
            else 30.0
            if x.shape[0] == y.shape[0]
            else tj.reduce_sum(x)
        )

    for n, m in [(2, 3), (3, 2), (5, 4), (6, 3), (7, 8), (4, 3), (9, 9), (6, 7), (8, 9), (4, 4)]:
        want = 10 if n == 6 else 20 if n == 4 else 30 if n == m else n
        assert float(f(np.ones(n, np.float32), np.ones(m, np.float32))) == want


def test_no_elements_are_refused_where_they_are_eagerly():
    f = tj.function(lambda x: tj.reduce_max(x, axis=0))
    for n in (3, 4, 5):
        assert f(np.ones((n, 2))).shape == (2,)
    with pytest.raises(ShapeError, match="no elements"):
        f(np.ones((0, 2)))


# --- signatures and concrete functions --------------------------------------------------------------------------------
def test_input_signature():
    @tj.function(input_signature=[tj.TensorSpec((None, 3), tj.float32), tj.TensorSpec((), tj.float32)])
    def f(x, k):
        return x * k

    for n in (2, 5, 3):
        assert f(np.ones((n, 3), np.float32), 2.0).shape == (n, 3)
    assert f(tj.ones((4, 3)), tj.constant(3.0)).numpy()[0, 0] == 3
    assert traces(f) == 1
    with pytest.raises(ArgumentError, match="signature"):
        f(np.ones((2, 4), np.float32), 1.0)
    with pytest.raises(ArgumentError, match="signature"):
        f(np.ones((2, 3), np.float64), 1.0)
    with pytest.raises((ArgumentError, TypeError)):
        f(np.ones((2, 3), np.float32))


def test_named_sizes_in_a_signature():
    spec = tj.TensorSpec(("n", "n"), tj.float64)
    f = tj.function(lambda a, b: a @ b, input_signature=[spec, tj.TensorSpec(("n",), tj.float64)])
    assert f(np.eye(3), np.arange(3.0)).numpy().tolist() == [0, 1, 2]
    assert f(np.eye(4), np.arange(4.0)).numpy().tolist() == [0, 1, 2, 3]
    assert traces(f) == 1
    with pytest.raises(ShapeError, match="'n'"):
        f(np.eye(3), np.arange(4.0))
    with pytest.raises(ShapeError, match="'n'"):
        f(np.ones((3, 4)), np.arange(4.0))


def test_a_size_that_the_signature_leaves_open_cannot_steer_python():
    @tj.function(input_signature=[tj.TensorSpec((None,), tj.float32)])
    def f(x):
        return tj.reduce_sum(x) * len("a" * x.shape[0])

    with pytest.raises(TracedValueError, match="leaves open"):
        f(np.ones(3, np.float32))


def test_nested_signature():
    specs = {"x": tj.TensorSpec((None,), tj.float32), "y": [tj.TensorSpec((2,), tj.int32)]}
    f = tj.function(lambda d: tj.reduce_sum(d["x"]) + tj.cast(d["y"][0], tj.float32), input_signature=[specs])
    assert f({"x": X, "y": [np.array([1, 2], np.int32)]}).numpy().tolist() == [7, 8]
    with pytest.raises(ArgumentError, match="structure"):
        f({"x": X, "y": []})


def test_concrete_functions():
    f = tj.function(lambda x, k=2.0: {"out": x * k})
    c = f.get_concrete_function(tj.TensorSpec((None, 3), tj.float32))
    assert traces(f) == 1
    assert c(np.ones((4, 3), np.float32))["out"].numpy()[0, 0] == 2
    v = tj.Variable(1.0, trainable=False)
    w = tj.Variable(2.0)
    d = tj.function(lambda x: x * v * w).get_concrete_function(X)
    assert d.variables == (v, w)
    assert d.trainable_variables == (w,)
    assert "mul" in str(d.graph)
    assert "ConcreteFunction" in repr(d)


# --- switches and nesting ---------------------------------------------------------------------------------------------
def test_run_eagerly():
    seen = []

    @tj.function
    def f(x):
        seen.append(type(x))
        return x + 1

    tj.config.run_functions_eagerly(True)
    try:
        f(X)
        f(tj.constant(X))
        assert seen == [np.ndarray, tj.Tensor]
        assert traces(f) == 0
    finally:
        tj.config.run_functions_eagerly(False)
    f(X)
    f(X)
    assert traces(f) == 1


def test_nested_functions_are_inlined():
    v = tj.Variable(1.0)

    @tj.function
    def inner(x, k):
        v.assign_add(1.0)
        return {"y": x * k}

    @tj.function
    def outer(x):
        return inner(x, 2.0)["y"] + inner(x, 3)["y"] * v

    assert outer(X).numpy().tolist() == (X * 2 + X * 3 * 3).tolist()
    assert float(v) == 3.0
    assert traces(inner) == 0
    assert outer.stats()["kernels"] <= 2


def test_recursion_through_python():
    @tj.function
    def power(x, n):
        return x * 1 if n == 0 else x * power(x, n - 1)

    assert power(X, 3).numpy().tolist() == (X**4).tolist()
    assert power(X, 1).numpy().tolist() == (X**2).tolist()


def test_a_function_that_calls_itself_by_another_kind():
    @tj.function
    def f(x):
        return f(tj.cast(x, tj.float32)) if x.dtype == tj.float64 else x + 1

    assert f(X.astype(np.float64)).dtype == tj.float32


# --- what it says of itself -------------------------------------------------------------------------------------------
def test_graphs_of_each_stage():
    @tj.function
    def f(a, b, c):
        return a * b + a * b * c + 0.0

    traced, optimized, prepared = (str(f.graph(X, X, X, stage=s)) for s in ("traced", "optimized", "prepared"))
    assert traced.startswith("graph f(%0: f32[3]")
    assert traced.count("mul(%0, %1)") == 1
    assert len(optimized.splitlines()) <= len(traced.splitlines())
    assert prepared.count("return") == 1
    with pytest.raises(ArgumentError, match="stage"):
        f.graph(X, X, X, stage="machine")


def test_explain_and_stats():
    @tj.function
    def f(x):
        return tj.reduce_sum(tj.exp(x - tj.reduce_max(x)) * 1.0)

    f(X)
    text = f.explain(X)
    for part in ("traced because", "graph f(", "rewritten", "kernels", "plan"):
        assert part in text, part
    stats = f.stats()
    assert stats["traces"] == 1
    assert stats["kernels"] == 1
    assert stats["kernels_unfused"] >= 4
    assert stats["nodes_optimized"] <= stats["nodes"]
    assert all(stats[k] >= 0 for k in ("trace_ms", "optimize_ms", "lower_ms", "compile_ms"))
    assert tj.function(lambda: 1.0).stats() == {"traces": 0}


def test_explain_lists_what_was_merged_folded_and_fused():
    @tj.function
    def f(x):
        a = tj.sin(x)  # first
        b = tj.sin(x) * 1.0  # second
        return tj.reduce_sum(a * b + tj.sqrt(tj.constant(4.0)))

    f(X)
    first = inspect.getsourcelines(f.python_function)[1] + 2
    lines = f.explain(X).splitlines()

    def below(title):
        at = next(i for i, line in enumerate(lines) if line.startswith(title))
        return "\n".join(itertools.takewhile(str.strip, lines[at + 1 :]))

    here = "test_function_traces.py"
    assert re.search(rf"sin +×1 +{here}:{first + 1} is that of {here}:{first}$", below("merged"), re.MULTILINE)
    assert re.search(rf"sqrt +×1 +{here}:{first + 2}", below("folded"))
    assert "x · 1" in below("rewritten")
    assert re.search(rf"0: \S*sin\S*reduce_sum +{here}:{first}, ", below("kernels"))
    assert "operations fused into 1\n" in f.explain(X)


def test_explain_and_stats_count_the_same():
    """Sources, changes of shape and checks are no operations that compute, and checks no kernels."""

    @tj.function
    def f(x, rows):
        y = tj.gather(x @ x, rows) * tj.cast(tj.range(3), tj.float64)
        return tj.reduce_sum(tj.transpose(y)) + tj.exp(y)

    x, rows = tj.ones((3, 3), tj.float64), tj.constant([0, 2])
    text = f.explain(x, rows)
    found = f.stats()
    graph = f.graph(x, rows, stage="optimized")
    computing = [n for n in graph.nodes if n.op.family not in ("source", "shape") and n.op.name != "check"]
    assert any(n.op.name == "check" for n in graph.nodes)
    assert found["kernels_unfused"] == len(computing) > found["kernels"]
    head = next(line for line in text.splitlines() if line.startswith("kernels: "))
    assert head.startswith(f"kernels: {found['kernels_unfused']} operations fused into {found['kernels']}")
    steps = list(itertools.takewhile(str.strip, text.split(head + "\n")[1].splitlines()))
    more = len(steps) - found["kernels"]
    assert head.endswith(f", {more} more step{'s' * (more > 1)} to check or to hand on")


def test_a_captured_array_is_read_at_every_call_whatever_its_strides():
    base = np.arange(24, dtype=np.float64).reshape(4, 6)
    arrays = {
        "transposed": base.T, "every other": base[::2, 1::2], "reversed": base[::-1], "whole": base,
        "broadcast": np.broadcast_to(base[:, :1], (4, 6)), "a field": np.zeros(3, [("a", "i1"), ("b", "f8")])["b"],
    }  # fmt: skip
    narrow = base.astype(np.float32)[:, ::2]

    @tj.function
    def f(x):
        products = {k: a * x for k, a in arrays.items()}
        return products, tj.reduce_sum(narrow * x), tj.convert_to_tensor(narrow, tj.float64)

    x = tj.constant(2.0, tj.float64)
    for _ in range(3):
        products, total, converted = f(x)
        for k, a in arrays.items():
            assert products[k].numpy().tolist() == (a * 2).tolist(), k
        assert float(total) == 2 * narrow.sum()
        assert converted.numpy().tolist() == narrow.tolist()
        base += 1
        narrow += 1
        arrays["a field"][:] += 1
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.reduce_sum(f(x)[0]["transposed"])
    assert float(tape.gradient(y, x)) == base.sum()
    assert f.experimental_get_tracing_count() == 1


def test_a_captured_array_of_a_subclass_is_read_at_every_call():
    class Mine(np.ndarray):
        pass

    a = np.arange(3.0).view(Mine)
    f = tj.function(lambda x: x + a)
    assert f(np.zeros(3)).numpy().tolist() == [0, 1, 2]
    a[1] = 7
    assert f(np.zeros(3)).numpy().tolist() == [0, 7, 2]


def test_explain_says_why_it_was_traced_again():
    f = tj.function(lambda x, k: x * 2)
    f(X, "a")
    assert "k" in f.explain(X, "b") or "args" in f.explain(X, "b")
    assert "float64" in f.explain(X.astype(np.float64), "a")
    assert "sizes changed" in f.explain(np.ones(4, np.float32), "a")


# --- memory -----------------------------------------------------------------------------------------------------------
def test_functions_and_what_they_hold_can_be_collected():
    class Big:
        pass

    def make():
        big, v = Big(), tj.Variable(np.ones(100, np.float32))
        f = tj.function(lambda x: (x + v, big)[0] * float(len(vars(big)) + 3))
        f(np.ones(100, np.float32))
        f(np.ones(100, np.float32))
        return weakref.ref(f), weakref.ref(big), weakref.ref(v)

    refs = make()
    gc.collect()
    assert [r() for r in refs] == [None, None, None]


def test_kernels_are_given_back():
    gc.collect()
    f = tj.function(lambda x: tj.exp(x * 1.2345) - tj.sin(x) * 17.25)
    before = set(compiler._known)
    f(X)
    mine = set(compiler._known) - before
    assert len(mine) == 1
    g = tj.function(lambda x: tj.exp(x * 1.2345) - tj.sin(x) * 17.25)
    g(X)
    assert set(compiler._known) - before == mine
    del f
    gc.collect()
    assert g(X).shape == (3,)
    assert mine <= set(compiler._known)
    del g
    gc.collect()
    assert not mine & set(compiler._known)


def test_hundreds_of_sizes_are_called_natively():
    f = tj.function(lambda x: tj.reduce_sum(x * 2.0))
    xs = [tj.ones((10 + i,)) for i in range(200)]
    for x in xs:
        f(x)
    plans = f.plans
    for i, x in enumerate(xs):
        assert float(f(x)) == 2.0 * (10 + i)
    assert f.plans is plans  # a call that goes through Python puts its plan in front
    assert f.stats()["traces"] == 2
