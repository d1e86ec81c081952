"""vectorized_map and vmap against a Python loop and a stack: every rule, branches and loops whose rows differ."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tracejit as tj
from tracejit.autodiff.batchloops import CONTROL
from tracejit.autodiff.batchrules import RULES, rule_of
from tracejit.ir.op import OPS
from tracejit.tree import flatten, map_structure, unflatten

RNG = np.random.default_rng(7)
WAYS = pytest.mark.parametrize("wrapper", [lambda f: f, tj.function], ids=["eager", "traced"])


def array(*shape):
    return RNG.uniform(0.3, 1.7, shape)


def looped(fn, elems):
    """The map as a loop and a stack."""
    leaves, structure = flatten(elems)
    n = len(leaves[0])
    outs = [flatten(fn(unflatten(structure, [tj.constant(x)[i] for x in leaves]))) for i in range(n)]
    return unflatten(outs[0][1], [np.stack([np.asarray(o[0][k]) for o in outs]) for k in range(len(outs[0][0]))])


def close(got, want, tol=1e-9):
    if isinstance(got, tj.Tensor):
        got, want = [got], [np.asarray(want)]
    for a, b in zip(flatten(got)[0], flatten(want)[0], strict=True):
        a = np.asarray(a)
        assert a.shape == np.asarray(b).shape
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol)


def agrees(fn, elems, gradients=True, traced=True):
    """Eagerly, traced, and the gradients of both: as the loop has them."""
    want = looped(fn, elems)
    given = map_structure(tj.constant, elems)

    def all_rows(e):
        return tj.vectorized_map(fn, e, fallback_to_while_loop=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        close(all_rows(given), want)
        if traced:
            close(tj.function(all_rows)(given), want)
    if gradients:
        seeds = [RNG.standard_normal(np.shape(w)) for w in flatten(want)[0]]

        def pulled(many):
            def f(e):
                leaves = [x for x in flatten(e)[0] if x.dtype.kind == "f"]
                with tj.GradientTape() as tape:
                    tape.watch(leaves)
                    ys = [y for y in flatten(many(e))[0] if y.dtype.kind == "f"]
                own = [s for s, w in zip(seeds, flatten(want)[0], strict=True) if np.asarray(w).dtype.kind == "f"]
                return tape.gradient(ys, leaves, output_gradients=own, unconnected_gradients="zero")

            return f

        def by_loop(e):
            leaves, s = flatten(e)
            n = int(leaves[0].shape[0])
            outs = [flatten(fn(unflatten(s, [x[i] for x in leaves])))[0] for i in range(n)]
            return [tj.stack([o[k] for o in outs]) for k in range(len(outs[0]))]

        expected = pulled(by_loop)(given)
        close(pulled(all_rows)(given), expected, 1e-8)
        if traced:
            close(tj.function(pulled(all_rows))(given), expected, 1e-8)


# --- one rule after the other -----------------------------------------------------------------------------------------
W = array(3, 4)
T = array(2, 3, 4)
INDEX = np.array([[2, 0], [1, -1]])

RULE_CASES = {
    "elementwise": (lambda t: tj.exp(t[0]) * t[1] + W - t[1], (array(5), array(5, 3, 4))),
    "elementwise, rows of lower rank": (lambda t: t[0] * t[1], (array(5, 4), array(5, 2, 3, 4))),
    "elementwise beside a tensor of higher rank": (lambda x: x * T, array(5, 4)),
    "cast": (lambda x: tj.cast(tj.cast(x * 3.0, tj.int32), tj.float64) * x, array(5, 2)),
    "where": (lambda x: tj.where(x > 1.0, tj.sqrt(x - 1.0), W), array(5, 4)),
    "reductions": (lambda x: (tj.reduce_sum(x, 0), tj.reduce_max(x, 1), tj.reduce_prod(x), tj.reduce_mean(x, -1)), array(5, 3, 4)),
    "argmax": (lambda x: tj.argmax(x, 0) + tj.argmin(x, 0), array(5, 3, 4)),
    "cumsum": (lambda x: tj.cumsum(x, 1, exclusive=True), array(5, 3, 4)),
    "cumprod": (lambda x: tj.math.cumprod(x, 0, reverse=True), array(5, 3, 4)),
    "sort": (lambda x: tj.sort(x, axis=0), array(5, 3, 4)),
    "reshape": (lambda x: tj.reshape(x, (-1, 2)) * 2.0, array(5, 3, 4)),
    "transpose": (lambda x: tj.transpose(x, (2, 0, 1)) + 1.0, array(5, 2, 3, 4)),
    "broadcast_to": (lambda x: tj.broadcast_to(x, (2, 3, 4)) * T, array(5, 3, 1)),
    "slice": (lambda x: x[1:, ::-2], array(5, 3, 4)),
    "place": (lambda x: tj.pad(x, ((1, 2), (0, 1)), constant_values=3.0), array(5, 3, 4)),
    "concat": (lambda x: tj.concat([x, W, x * 2.0], 0), array(5, 2, 4)),
    "stack": (lambda x: tj.stack([x, W], 1), array(5, 3, 4)),
    "matmul, right shared": (lambda x: x @ W, array(5, 2, 3)),
    "matmul, left shared": (lambda x: W @ x, array(5, 4, 2)),
    "matmul of a shared matrix and vectors": (lambda x: tj.linalg.matvec(W, x), array(5, 4)),
    "matmul, both": (lambda t: tj.matmul(t[0], t[1], transpose_b=True), (array(5, 2, 3), array(5, 4, 3))),
    "matmul, transposed": (lambda x: (tj.matmul(x, W, transpose_a=True), tj.matmul(W, x, transpose_a=True)), array(5, 3, 2)),
    "matmul with batch axes": (lambda t: tj.matmul(t[0], t[1]) + tj.matmul(T, t[1]), (array(5, 1, 2, 3, 4), array(5, 4, 3))),
    "einsum": (lambda t: tj.einsum("ij,kj->ik", t[0], t[1]), (array(5, 2, 3), array(5, 4, 3))),
    "gather, index shared": (lambda x: tj.gather(x, INDEX, axis=1), array(5, 2, 3)),
    "gather, operand shared": (lambda i: tj.gather(W, i, axis=1) * 1.0, RNG.integers(-4, 4, (5, 2, 3))),
    "gather, both": (lambda t: tj.gather(t[0], t[1], axis=1), (array(5, 2, 3, 2), RNG.integers(-3, 3, (5, 4, 2)))),
    "gather of one row": (lambda t: t[0][t[1]], (array(5, 3, 2), RNG.integers(0, 3, 5))),
    "gather with batch_dims": (lambda t: tj.gather(t[0], t[1], batch_dims=1), (array(5, 2, 3), RNG.integers(0, 3, (5, 2, 4)))),
    "scatter, both": (lambda t: tj.scatter_nd(t[0], t[1], (6,)), (RNG.integers(0, 6, (5, 4, 1)), array(5, 4))),
    "scatter, index shared": (lambda x: tj.scatter_nd([[1], [4], [1]], x, (6,)), array(5, 3)),
    "scatter, values shared": (lambda i: tj.scatter_nd(i, W[0], (6,)), RNG.integers(0, 6, (5, 4, 1))),
    "segments": (lambda t: tj.math.unsorted_segment_sum(t[1], t[0], 3), (RNG.integers(0, 3, (5, 4)), array(5, 4, 2))),
    "independent of the row": (lambda x: (tj.constant(W) * 2.0, tj.reduce_sum(x)), array(5, 2)),
    "one_hot": (lambda i: tj.one_hot(i, 4, dtype=tj.float64), RNG.integers(0, 4, 5)),
    "softmax": (lambda x: tj.nn.softmax(x @ W), array(5, 2, 3)),
    "map in a map": (lambda x: tj.vectorized_map(lambda r: tj.tanh(r @ W[:, 0]) * r, x), array(5, 2, 3)),
    "a batch of one": (lambda x: x * W + tj.reduce_sum(x), array(1, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", RULE_CASES)
def test_rule(name):
    fn, elems = RULE_CASES[name]
    agrees(fn, elems, gradients=any(np.asarray(x).dtype.kind == "f" for x in flatten(elems)[0]))


def rule_cases_of_ops(op):
    """Operands of rows and attributes for ops whose rules have several forms."""
    i = RNG.integers(0, 3, (5, 2, 2))
    return {
        "update": ([array(5, 3, 4), array(5, 2, 2)], {"start": (1, 0), "step": (1, 2)}),
        "put": ([array(5, 2, 3, 4), i, array(5, 2, 2, 2, 4)], {"axis": 1}),
        "add_at": ([array(5, 2, 3, 4), i, array(5, 2, 2, 2, 4)], {"axis": 1}),
        "scatter_sum": ([array(5, 2, 2, 2, 4), i], {"size": 3, "axis": 1}),
        "gather": ([array(5, 2, 3, 4), i], {"axis": 1}),
        "concat": ([array(5, 2, 3), array(5, 2, 1)], {"axis": 1}),
    }[op]


OPERANDS = {"update": 2, "put": 3, "add_at": 3, "scatter_sum": 2, "gather": 2, "concat": 2}


@pytest.mark.parametrize("op,pattern", [(op, k) for op, n in OPERANDS.items() for k in range(1, 2**n)])
def test_rule_with_any_operands_shared(op, pattern):
    arrays, attrs = rule_cases_of_ops(op)
    along = [k for k in range(len(arrays)) if pattern >> k & 1]
    fixed = [x[0] for x in arrays]

    def fn(own):
        xs = [tj.constant(x) for x in fixed]
        for k, t in zip(along, own, strict=True):
            xs[k] = t
        return tj.tensor.OPS[op](*xs, **attrs)

    elems = tuple([arrays[k] for k in along])
    agrees(fn, elems, gradients=any(x.dtype.kind == "f" for x in elems))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_shapes(data):
    n = data.draw(st.integers(1, 4))
    a, b = (tuple(data.draw(st.lists(st.sampled_from([1, 3]), max_size=3))) for _ in range(2))
    shared = data.draw(st.booleans())
    axis = data.draw(st.integers(0, max(len(a), 1) - 1))
    x, y = array(n, *a), array(*b) if shared else array(n, *b)

    def fn(t):
        u, v = (t, tj.constant(y)) if shared else t
        z = tj.sin(u) * v + tj.cast(tj.argmax(v, 0) if b else 0, tj.float64) * 0.0
        return (z, tj.reduce_sum(u, axis) * 2.0, tj.concat([u, u], axis)) if a else (z, u * 2.0)

    agrees(fn, x if shared else (x, y), traced=False)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_shapes_of_products(data):
    n, m, k, p = (data.draw(st.integers(1, 3)) for _ in range(4))
    ta, tb = data.draw(st.booleans()), data.draw(st.booleans())
    x = ([2] if data.draw(st.booleans()) else []) + ([k, m] if ta else [m, k])
    y = ([2] if data.draw(st.booleans()) else []) + ([p, k] if tb else [k, p])
    which = data.draw(st.sampled_from(["left", "right", "both"]))
    left, right = array(*([n] if which != "right" else []), *x), array(*([n] if which != "left" else []), *y)

    def fn(t):
        u = {"left": (t, right), "right": (left, t), "both": t}[which]
        return tj.matmul(*u, transpose_a=ta, transpose_b=tb)

    agrees(fn, {"left": left, "right": right, "both": (left, right)}[which], traced=False)


def test_rows_without_a_rule_are_gone_through_one_by_one(monkeypatch):
    monkeypatch.delitem(RULES, "cumsum")
    x = array(4, 3)
    with pytest.warns(RuntimeWarning, match="cumsum has no rule"):
        close(tj.vectorized_map(lambda r: tj.cumsum(r) * 2.0, x), np.cumsum(x, 1) * 2)
    with pytest.raises(tj.errors.ControlFlowError, match="cumsum"):
        tj.vectorized_map(lambda r: tj.cumsum(r), x, fallback_to_while_loop=False)
    f = tj.function(lambda v: tj.vectorized_map(lambda r: tj.cumsum(r) * 2.0, v, warn=False))
    close(f(tj.constant(x)), np.cumsum(x, 1) * 2)


# --- structures, sizes, Variables -------------------------------------------------------------------------------------
@WAYS
def test_structures(wrapper):
    f = wrapper(lambda d: tj.vectorized_map(lambda r: {"s": r["a"] + r["b"][0], "t": [r["b"][1] * 2.0]}, d))
    a, b, c = array(3), array(3, 2), array(3, 1)
    out = f({"a": tj.constant(a), "b": (tj.constant(b), tj.constant(c))})
    close(out, {"s": a[:, None] + b, "t": [c * 2]})
    assert isinstance(out["t"], list)


def test_symbolic_numbers_of_rows():
    f = tj.function(
        lambda x: tj.vectorized_map(lambda r: (r @ W, tj.sort(r), tj.gather(r, tj.argmax(r, 0)), r[1:]), x),
        input_signature=[tj.TensorSpec((None, 3), tj.float64)],
    )
    for n in (4, 2, 7, 1, 0):
        x = array(n, 3)
        close(f(tj.constant(x)), (x @ W, np.sort(x, 1), x.max(1), x[:, 1:]))
        assert n < 2 or f.experimental_get_tracing_count() == 1


@WAYS
def test_no_rows(wrapper):
    def row(x):
        y = tj.while_loop(lambda y: tj.reduce_sum(y) < 5.0, lambda y: (y * 2.0,), (x,))[0]
        return y, tj.cond(x[0] > 0, lambda: x, lambda: -x), x @ W[:3], tj.reduce_max(x)

    a, b, c, d = wrapper(lambda x: tj.vectorized_map(row, x))(tj.constant(array(0, 3)))
    assert [t.shape for t in (a, b, c, d)] == [(0, 3), (0, 3), (0, 4), (0,)]


def test_leading_axes_that_differ():
    with pytest.raises(tj.errors.ShapeError, match="leading axes"):
        tj.vectorized_map(lambda t: t[0], (array(3), array(4)))


@WAYS
def test_a_variable_is_read_and_differentiated(wrapper):
    v = tj.Variable(W)

    @wrapper
    def f(x):
        with tj.GradientTape() as tape:
            y = tj.reduce_sum(tj.vectorized_map(lambda r: tj.tanh(r @ v), x))
        return y, tape.gradient(y, v)

    x = array(5, 3)
    h = np.tanh(x @ W)
    close(f(tj.constant(x)), (h.sum(), x.T @ (1 - h * h)))


@WAYS
def test_assigning_a_variable(wrapper):
    v, n = tj.Variable(np.float64(1.0)), tj.Variable(5, dtype=tj.int32)

    def row(x):
        v.assign(v * x)
        return v + 1.0

    def counted(x):
        n.assign_add(2)
        n.assign_add(1)
        return tj.cast(n, tj.float64) * x

    x = array(4)
    with pytest.warns(RuntimeWarning, match="assigns to Variable"):
        close(wrapper(lambda x: tj.vectorized_map(row, x))(tj.constant(x)), np.cumprod(x) + 1)
    close(v.numpy(), np.prod(x))
    close(wrapper(lambda x: tj.vectorized_map(counted, x))(tj.constant(x)), (5 + 3 * np.arange(1, 5)) * x)
    assert int(n) == 17
    with pytest.raises(tj.errors.ControlFlowError, match="assigns"):
        tj.vectorized_map(row, x, fallback_to_while_loop=False)


@WAYS
def test_random_draws_differ_between_rows_as_in_a_loop(wrapper):
    def row(x):
        return tj.random.uniform((3,), dtype=tj.float64) + x, tj.random.normal((), dtype=tj.float64)

    results = []
    for many in (tj.vectorized_map, tj.map_fn):
        tj.random.set_seed(3)
        f = wrapper(lambda x, many=many: many(row, x))
        results.append([t.numpy() for t in f(tj.zeros(4, tj.float64))])
        results[-1].append(tj.random.uniform((2,)).numpy())  # the stream goes on behind the draws of all rows
    close(results[0], results[1], 1e-12)
    assert len(np.unique(results[0][0])) == 12
    nested = tj.vectorized_map(lambda v: tj.vectorized_map(lambda x: tj.random.uniform(()), v), tj.zeros((3, 4)))
    assert len(np.unique(nested.numpy())) == 12


# --- vmap -------------------------------------------------------------------------------------------------------------
@WAYS
def test_vmap_axes(wrapper):
    x, y = array(3, 5), array(5, 2)
    f = wrapper(tj.vmap(lambda a, b, c: (a * 2.0, tj.tensordot(a, b, 0) * c), in_axes=(1, 0, None), out_axes=(1, -1)))
    got = f(tj.constant(x), tj.constant(y), tj.constant(3.0, tj.float64))
    close(got, (x * 2, np.einsum("an,nb->abn", x, y) * 3))
    g = tj.vmap(lambda d, k: d["a"] + k * d["b"], in_axes=({"a": 0, "b": None}, None))
    close(g({"a": y, "b": np.ones(2)}, 2), y + 2)
    h = tj.vmap(lambda a, shift=None: (a + shift, 7.0), out_axes=(0, None))
    out = h(tj.constant(y), shift=tj.constant(y[:, :1]))
    close(out[0], y + y[:, :1])
    assert out[1].shape == ()


def test_vmap_of_vmap():
    x, y = array(3, 4), array(5, 4)
    f = tj.vmap(tj.vmap(lambda a, b: tj.reduce_sum(a * b), (None, 0)), (0, None))
    close(f(tj.constant(x), tj.constant(y)), x @ y.T)
    close(tj.function(f)(tj.constant(x), tj.constant(y)), x @ y.T)


def test_vmap_says_what_is_wrong():
    with pytest.raises(tj.errors.ArgumentError, match="None"):
        tj.vmap(lambda x: x, in_axes=None)(array(3))
    with pytest.raises(tj.errors.ArgumentError, match="in_axes"):
        tj.vmap(lambda x: x, in_axes=(0, 0))(array(3))
    with pytest.raises(tj.errors.ShapeError, match="depends on the row"):
        tj.vmap(lambda x: x, out_axes=None)(array(3))


# --- branches and loops -----------------------------------------------------------------------------------------------
CONTROL_CASES = {
    "branch by row": (lambda x: tj.cond(x > 1.0, lambda: tj.sqrt(x - 1.0), lambda: x * x), array(6)),
    "branch by row with a shared side": (lambda x: tj.cond(x[0] > 1.0, lambda: tj.constant(W), lambda: W * x), array(6, 4)),
    "shared branch": (lambda x: tj.cond(tj.reduce_sum(W) > 1.0, lambda: (x, W[0]), lambda: (x * 2.0, x)), array(6, 4)),
    "branch in a branch": (
        lambda x: tj.cond(x > 0.7, lambda: tj.cond(x > 1.2, lambda: x, lambda: -x), lambda: tj.exp(x)), array(6)
    ),
    "switch": (lambda t: tj.switch_case(t[0], [lambda: t[1], lambda: t[1] ** 2, lambda: tj.exp(t[1])]), (np.arange(5) % 3, array(5))),
    "loop of shared length": (lambda x: tj.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * x + 1.0), (0, x))[1], array(6)),
    "loop that begins shared": (
        lambda x: tj.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * x), (0, tj.ones((), tj.float64)))[1], array(6)
    ),
    "loop by row": (lambda x: tj.while_loop(lambda i, y: y < 9.0, lambda i, y: (i + 1, y * (1.2 + x)), (0, x))[1], array(6)),
    "loop over vectors by row": (
        lambda x: tj.while_loop(lambda y: tj.reduce_sum(y) < 20.0, lambda y: (y @ (W @ W.T) * 0.4 + x,), (x,))[0], array(6, 3)
    ),
    "loop in a branch": (
        lambda x: tj.cond(x > 1.0, lambda: tj.while_loop(lambda y: y < 9.0, lambda y: (y * x,), (x,))[0], lambda: x), array(6)
    ),
    "branch in a loop": (
        lambda x: tj.while_loop(
            lambda i, y: y < 9.0, lambda i, y: (i + 1, tj.cond(y > 2.0, lambda: y * y, lambda: y + x)), (0, x))[1],
        array(6),
    ),
    "loop in a loop": (
        lambda x: tj.while_loop(
            lambda y: y < 9.0, lambda y: (tj.while_loop(lambda z: z < y + x, lambda z: (z * 1.5,), (y,))[0],), (x,))[0],
        array(6),
    ),
    "scan": (lambda t: tj.scan(lambda a, x: tj.tanh(a * x), t[1], initializer=t[0]), (array(6, 2), array(6, 4, 2))),
    "scan over shared rows": (lambda a: tj.scan(lambda a, x: tj.tanh(a * x), tj.constant(W), initializer=a), array(6, 4)),
    "fold": (lambda m: tj.foldr(lambda a, x: tj.sin(a) * x, m), array(6, 3, 2)),
    "map in rows": (lambda m: tj.map_fn(lambda r: tj.reduce_sum(r) * r, m), array(6, 3, 2)),
    "gradient in rows": (lambda x: tj.autodiff.vjp(lambda y: tj.sin(y @ W), x)[1](tj.ones(4, tj.float64))[0], array(6, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTROL_CASES)
def test_control(name):
    agrees(*CONTROL_CASES[name])


def per_row_gradient(x, c):
    """The gradient, within a row, of a loop whose length depends on the row."""
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.while_loop(lambda y: y < c, lambda y: (y * tj.exp(x) + 0.1,), (x,))[0]
    return tape.gradient(y, x)


@WAYS
@pytest.mark.parametrize("bound", [9.0, None])
def test_gradients_within_rows_of_loops(wrapper, bound):
    x = array(6)

    def row(t):
        return per_row_gradient(t, bound if bound is not None else 12.0)

    want = []
    for a in x:
        y, d = a, 1.0
        while y < (bound or 12.0):
            y, d = y * math.exp(a) + 0.1, (d + y) * math.exp(a)
        want.append(d)
    close(wrapper(lambda v: tj.vectorized_map(row, v))(tj.constant(x)), want)


@WAYS
def test_second_order_gradients(wrapper):
    x = array(5)

    def loop(x):
        return tj.while_loop(lambda y: y < 9.0, lambda y: (y * (1.0 + x),), (x,))[0]

    def second(many):
        def f(x):
            with tj.GradientTape() as outer:
                outer.watch(x)
                with tj.GradientTape() as inner:
                    inner.watch(x)
                    y = many(x)
                g = inner.gradient(y, x)
            return g, outer.gradient(g, x)

        return f

    got = wrapper(second(lambda v: tj.vectorized_map(loop, v)))(tj.constant(x))
    want = second(lambda v: tj.stack([loop(v[i]) for i in range(5)]))(tj.constant(x))
    close(got, want, 1e-8)


def test_safe_gradients_of_the_branch_not_taken():
    x = np.array([-1.0, 0.0, 4.0])
    for f in (lambda f: f, tj.function):

        @f
        def g(x):
            with tj.GradientTape() as tape:
                tape.watch(x)
                y = tj.vectorized_map(lambda r: tj.cond(r > 0, lambda: tj.sqrt(r) + tj.math.log(r), lambda: r * 3.0), x)
            return tape.gradient(y, x)

        close(g(tj.constant(x)), [3, 3, 0.5])


@WAYS
def test_positions_and_checks_of_rows_that_do_not_count(wrapper):
    v = np.array([3.0, 1.0, 2.0])
    f = wrapper(lambda i: tj.vectorized_map(lambda k: tj.cond(k < 3, lambda: tj.constant(v)[k], lambda: -1.0 + 0.0 * v[0]), i))
    close(f(tj.constant(np.arange(5))), [3, 1, 2, -1, -1])
    with pytest.raises(tj.errors.TracejitError):
        wrapper(lambda i: tj.vectorized_map(lambda k: tj.constant(v)[k], i))(tj.constant(np.arange(5)))


def collatz(n):
    k = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        k += 1
    return k


@WAYS
def test_collatz(wrapper):
    n = np.arange(1, 40)
    got = wrapper(lambda v: tj.vectorized_map(collatz, v))(tj.constant(n))
    assert got.numpy().tolist() == [collatz(int(k)) for k in n]


def newton(a):
    """The square root, to the last bit or so."""
    x = a
    while tj.abs(x * x - a) > 1e-13 * a:
        x = (x + a / x) / 2.0
    return x


@WAYS
def test_newton(wrapper):
    a = np.array([1e-6, 0.5, 2.0, 1e8])

    @wrapper
    def f(v):
        with tj.GradientTape() as tape:
            tape.watch(v)
            y = tj.vectorized_map(newton, v)
        return y, tape.gradient(y, v)

    y, g = f(tj.constant(a))
    close(y / np.sqrt(a), np.ones(4), 1e-12)
    close(g * 2 * np.sqrt(a), np.ones(4), 1e-6)


def escape(c, limit=30):
    z, n = c * 0.0, 0
    while tj.reduce_sum(z * z) < 4.0 and n < limit:
        z = tj.stack([z[0] * z[0] - z[1] * z[1], 2.0 * z[0] * z[1]]) + c
        n += 1
    return n


@WAYS
def test_mandelbrot(wrapper):
    x, y = np.meshgrid(np.linspace(-2, 0.6, 14), np.linspace(-1.2, 1.2, 9))
    c = np.stack([x, y], -1)
    z, n = np.zeros(x.shape, complex), np.zeros(x.shape, int)
    for _ in range(30):
        go = abs(z) < 2
        n += go
        z = np.where(go, z * z + x + 1j * y, z)
    got = wrapper(lambda p: tj.vectorized_map(lambda row: tj.vectorized_map(escape, row), p))(tj.constant(c))
    assert got.numpy().tolist() == n.tolist()
    assert len(set(n.ravel().tolist())) > 5


def grown(x):
    return tj.while_loop(lambda y: y < 9.0, lambda y: (y * tj.exp(x) + 0.1,), (x,))[0]


def slope(f):
    def g(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    return g


def slopes(a):
    """The value of `grown`, its derivative and its second derivative."""
    e = math.exp(a)
    y, d, h = a, 1.0, 0.0
    while y < 9.0:
        y, d, h = y * e + 0.1, (d + y) * e, (h + 2 * d + y) * e
    return y, d, h


LOOPS = {
    "gradient in a branch": (
        lambda v: tj.vectorized_map(lambda x: tj.cond(x > 0.9, lambda: slope(grown)(x), lambda: x), v),
        lambda a: slopes(a)[1] if a > 0.9 else a,
    ),
    "second gradient within rows": (
        lambda v: tj.vectorized_map(lambda x: slope(slope(grown))(x), v), lambda a: slopes(a)[2]
    ),
    "gradient of gradients within rows": (
        lambda v: slope(lambda v: tj.vectorized_map(lambda x: slope(grown)(x), v))(v), lambda a: slopes(a)[2]
    ),
    "tangents through rows": (
        lambda v: tj.jvp(lambda v: tj.vectorized_map(grown, v), [v], [tj.ones_like(v)])[1],
        lambda a: slopes(a)[1],
    ),
    "tangents within rows": (
        lambda v: tj.vectorized_map(lambda x: tj.jvp(grown, [x], [tj.ones_like(x)])[1], v),
        lambda a: slopes(a)[1],
    ),
    "rows within a loop": (
        lambda v: tj.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, tj.vectorized_map(lambda x: x + grown(x), y)), (0, v))[1],
        lambda a: (lambda b: b + slopes(b)[0])(a + slopes(a)[0]),
    ),
}  # fmt: skip


@WAYS
@pytest.mark.parametrize("name", LOOPS)
def test_loops_and_derivatives(wrapper, name):
    f, expected = LOOPS[name]
    x = array(6)
    close(wrapper(f)(tj.constant(x)), [expected(a) for a in x], 1e-8)


@WAYS
def test_converted_code_in_rows(wrapper):
    def leaves_a_loop(x):
        s = x * 0.0
        for _ in tj.range(10):
            s += x
            if s > 3.0:
                break
        return s

    def returns_early(x):
        if x > 1.0:
            return x * 2.0
        return tj.sin(x)

    def fills_an_array(x):
        a = tj.TensorArray(tj.float64, size=3)
        for i in tj.range(3):
            a = a.write(i, x * tj.cast(i, tj.float64))
        return a.stack()

    x = array(6)
    t = tj.constant(x)
    close(wrapper(lambda v: tj.vectorized_map(leaves_a_loop, v))(t), x * np.minimum(10, np.floor(3 / x) + 1))
    close(wrapper(lambda v: tj.vectorized_map(returns_early, v))(t), np.where(x > 1, x * 2, np.sin(x)))
    close(wrapper(lambda v: tj.vectorized_map(fills_an_array, v))(t), x[:, None] * np.arange(3))
    inner = tj.function(lambda r: r * 2.0 if r > 1.0 else -r)
    close(wrapper(lambda v: tj.vectorized_map(inner, v))(t), np.where(x > 1, x * 2, -x))


def test_a_traced_map_under_an_eager_tape():
    x = array(6)
    f = tj.function(lambda v: tj.vectorized_map(grown, v))
    t = tj.constant(x)
    with tj.GradientTape() as tape:
        tape.watch(t)
        y = f(t)
    close(tape.gradient(y, t), [slopes(a)[1] for a in x], 1e-8)


@WAYS
def test_a_jacobian_by_rows_of_cotangents(wrapper):
    @wrapper
    def f(x):
        with tj.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y = tj.exp(x) * tj.cumsum(x)
        return tj.vectorized_map(lambda e: tape.gradient(y, x, output_gradients=e), tj.eye(4, dtype=tj.float64))

    x = array(4)
    close(f(tj.constant(x)), np.diag(np.exp(x) * np.cumsum(x)) + np.exp(x)[:, None] * np.tri(4))


def test_every_op_has_a_rule():
    without = {n for n, op in OPS.items() if rule_of(op) is None and n not in CONTROL and op.family != "source"}
    assert without <= {"host_call", "count_up", "positions", "sized"} | {n for n in without if n.startswith("test")}


# --- gradients of the user's own, calls of Python ---------------------------------------------------------------------
@tj.custom_gradient
def clipped(x, w):
    return x * w, lambda g: (tj.clip_by_value(g, -0.1, 0.1) * w, g * x)


@WAYS
def test_custom_gradient(wrapper):
    x, w = array(5, 3), array(3)

    @wrapper
    def f(x, w):
        with tj.GradientTape() as tape:
            tape.watch([x, w])
            y = tj.vectorized_map(lambda r: clipped(r, w), x)
        return y, *tape.gradient(y, [x, w])

    close(f(tj.constant(x), tj.constant(w)), (x * w, np.broadcast_to(0.1 * w, (5, 3)), x.sum(0)))


@WAYS
def test_python_functions_are_called_for_each_row(wrapper):
    seen = []

    def row(x):
        y = tj.numpy_function(lambda a: seen.append(float(a)) or a * 2, [x], tj.float64)
        return tj.cond(x > 1.0, lambda: tj.py_function(lambda a, b: a + b, [x, y], tj.float64), lambda: -x)

    x = np.array([0.5, 1.5, 2.5])
    with pytest.warns(RuntimeWarning, match="Python function"):
        got = wrapper(lambda v: tj.vectorized_map(row, v))(tj.constant(x))
    close(got, np.where(x > 1, 3 * x, -x))
    assert seen == x.tolist()


def test_rows_with_shifts_and_beginnings_of_their_own():
    x = np.arange(24.0, dtype=np.float32).reshape(3, 4, 2)
    shift, begin = np.array([1, -1, 5]), np.array([0, 2, 1])
    rows = (tj.constant(x), tj.constant(shift), tj.constant(begin))
    for wrap in (lambda f: f, tj.function):
        rolled = wrap(lambda *r: tj.vectorized_map(lambda t: tj.roll(t[0], t[1], 0), r, fallback_to_while_loop=False))
        parts = wrap(
            lambda *r: tj.vectorized_map(lambda t: tj.slice(t[0], [t[2], 0], [2, 1]), r, fallback_to_while_loop=False)
        )
        np.testing.assert_array_equal(rolled(*rows).numpy(), [np.roll(a, s, 0) for a, s in zip(x, shift, strict=True)])
        want = [a[b : b + 2, :1] for a, b in zip(x, begin, strict=True)]
        np.testing.assert_array_equal(parts(*rows).numpy(), want)
