"""What concat, place and update join is computed where it belongs, and elementwise work is cut along the joints."""

import numpy as np
import pytest
from lowerings import Lowered, compiled

import tracejit as tj
from tracejit.lower import binding
from tracejit.runtime.records import Jump, Kernel, ParallelKernel

RNG = np.random.default_rng(0)
STEPS = 7


def f32(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def middle(u):
    around = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
    return u[1:-1, 1:-1] + 0.2 * (around - 4.0 * u[1:-1, 1:-1])


def joined(u):
    inner = tj.concat([u[1:-1, :1], middle(u), u[1:-1, -1:]], axis=1)
    return tj.concat([u[:1], inner, u[-1:]], axis=0)


def padded(u):
    return u + tj.pad(middle(u) - u[1:-1, 1:-1], [[1, 1], [1, 1]])


def assigned(u):
    v = tj.Variable(u) if isinstance(u, np.ndarray) else STATE
    v.assign(u)
    v[1:-1, 1:-1].assign(middle(v))
    return v.read_value()


STATE = tj.Variable(np.zeros((160, 300), np.float32))


def periodic(u):
    around = tj.roll(u, 1, 0) + tj.roll(u, -1, 0) + tj.roll(u, 1, 1) + tj.roll(u, -1, 1)
    return u + 0.2 * (around - 4.0 * u)


def numpy_step(u):
    new = u.copy()
    new[1:-1, 1:-1] = middle(u)
    return new


def numpy_periodic(u):
    around = np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 1, 1) + np.roll(u, -1, 1)
    return u + np.float32(0.2) * (around - np.float32(4) * u)


WAYS = {
    "joined": (joined, numpy_step), "padded": (padded, numpy_step), "assigned": (assigned, numpy_step),
    "periodic": (periodic, numpy_periodic),
}  # fmt: skip


@pytest.fixture
def steps(monkeypatch):
    """The steps of all plans that are made."""
    found = []
    plan = binding.Plan

    def kept(*args, **kwargs):
        found.append(kwargs["steps"])
        return plan(*args, **kwargs)

    monkeypatch.setattr(binding, "Plan", kept)
    return found


def within(steps):
    """The kernels in the last loop among the steps; one before it takes several of its steps at once."""
    end, back = [(i, s.target) for i, s in enumerate(steps) if isinstance(s, Jump) and s.target <= i][-1]
    arithmetic = ("madd", "count", "offset")
    return [
        s.name for s in steps[back:end] if isinstance(s, (Kernel, ParallelKernel)) and s.name not in arithmetic
    ]


@pytest.mark.parametrize("name", WAYS)
def test_a_step_of_a_stencil_writes_its_result_once(steps, name):
    step, reference = WAYS[name]

    def loop(u):
        for _ in tj.range(STEPS):
            u = step(u)
        return u

    def assigning(u):
        STATE.assign(u)
        for _ in tj.range(STEPS):
            STATE[1:-1, 1:-1].assign(middle(STATE))
        return STATE.read_value()

    u = f32(160, 300)
    f = compiled(assigning if name == "assigned" else loop)
    want = u
    for _ in range(STEPS):
        want = reference(want)
    for _ in range(2):
        np.testing.assert_allclose(f(u), want, atol=1e-5)
    (made,) = steps
    loops = within(made)
    assert not any("concat" in s or "update" in s or "place" in s for s in loops), loops
    assert len(loops) == 1 or name == "periodic", loops


@pytest.mark.parametrize("name", ["joined", "padded", "periodic"])
@pytest.mark.parametrize("shape", [(160, 300), (5, 7), (3, 3)])
def test_a_step_of_a_stencil_in_every_way_of_running_it(name, shape):
    step, reference = WAYS[name]
    u = f32(*shape)
    for way, (got,) in Lowered(step).results(u):
        np.testing.assert_allclose(got, reference(u), atol=1e-5, err_msg=way)


@pytest.mark.parametrize("name", ["joined", "padded", "periodic"])
def test_the_gradient_of_a_step(name):
    step = WAYS[name][0]

    def gradient(u, w):
        with tj.GradientTape() as tape:
            tape.watch(u)
            y = tj.reduce_sum(step(u) * w)
        return tape.gradient(y, u)

    u, w = f32(130, 260), f32(130, 260)
    np.testing.assert_allclose(compiled(gradient)(u, w), gradient(tj.constant(u), tj.constant(w)), atol=1e-4)


JOINS = {
    "concat": lambda a, b: tj.concat([tj.tanh(a), b * 2.0, tj.exp(b)], axis=0),
    "concat, last axis": lambda a, b: tj.concat([tj.tanh(a), b * 2.0, tj.exp(b)], axis=1),
    "stack": lambda a, b: tj.stack([tj.tanh(a), b * 2.0]),
    "stack, last axis": lambda a, b: tj.stack([tj.tanh(a), b * 2.0], axis=-1),
    "pad": lambda a, b: tj.pad(a * b, [[2, 0], [1, 3]], constant_values=7.0),
    "concat of concats": lambda a, b: tj.concat([tj.concat([a + b, a], 1), tj.concat([b, a - b], 1)], 0),
    "pad of pads": lambda a, b: tj.pad(tj.pad(a * b, [[1, 1], [0, 0]]), [[0, 0], [2, 2]], constant_values=1.0),
    "rows of sums": lambda a, b: tj.stack([tj.reduce_sum(a, 1), tj.reduce_sum(b, 1)]),
    "sums": lambda a, b: tj.stack([tj.reduce_sum(a), tj.reduce_max(b)]),
    "read twice": lambda a, b: (lambda x: (tj.concat([x, b], 0), x * 2.0))(tj.tanh(a)),
    "joined twice": lambda a, b: (lambda x: tj.concat([x, x], 0))(tj.tanh(a)),
    "joined and a result": lambda a, b: (lambda x: (tj.concat([x, b], 0), x))(tj.tanh(a)),
    "one read by another": lambda a, b: (lambda x: tj.concat([x, tj.exp(x)], 0))(tj.tanh(a)),
    "transposed": lambda a, b: tj.concat([tj.transpose(tj.tanh(a)), tj.transpose(b)], 0),
    "other shapes": lambda a, b: tj.concat([tj.reshape(tj.tanh(a), (-1,)), tj.reshape(b, (-1,))], 0),
    "nothing": lambda a, b: tj.concat([tj.tanh(a)[:0], b * 2.0, (a + b)[:, :][5:5]], 0),
    "a constant": lambda a, b: tj.concat([tj.zeros_like(a), a * b, tj.ones_like(b)], 0),
    "a product": lambda a, b: tj.concat([tj.tanh(tj.matmul(a, tj.transpose(b))), tj.matmul(b, tj.transpose(a))], 0),
    "whole numbers": lambda a, b: tj.concat([tj.cast(a * 9.0, tj.int32), tj.cast(b, tj.int32) + 1], 1),
    "masks": lambda a, b: tj.concat([a > b, tj.logical_not(a > 0.0)], 1),
    "sum of joins": lambda a, b: tj.concat([a, b], 0) + tj.concat([b * 2.0, a], 0),
    "join and a row": lambda a, b: tj.concat([a, b], 0) * b[0] + tj.reduce_sum(a),
    "uneven joins": lambda a, b: tj.concat([a[:1], b], 0) * tj.concat([b, a[-1:]], 0),
    "join of halves": lambda a, b: tj.sqrt(tj.abs(tj.concat([a[:, :3], tj.concat([b, a], 0)[: a.shape[0], 3:]], 1))),
}


@pytest.mark.parametrize("name", JOINS)
@pytest.mark.parametrize("shape", [(4, 6), (100, 512)])
def test_what_is_joined(name, shape):
    f, a, b = JOINS[name], f32(*shape), f32(*shape)
    want = f(tj.constant(a), tj.constant(b))
    want = [np.asarray(x) for x in (want if isinstance(want, tuple) else (want,))]
    for way, got in Lowered(f).results(a, b):
        for x, y in zip(got, want, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-4, err_msg=way)


@pytest.mark.parametrize("name", ["concat", "stack", "pad", "uneven joins", "sum of joins"])
def test_what_is_joined_at_sizes_that_change(name):
    f, traced = JOINS[name], compiled(JOINS[name])
    for n in (90, 91, 200, 3, 7):
        a, b = f32(n, 300), f32(n, 300)
        np.testing.assert_allclose(traced(a, b), f(tj.constant(a), tj.constant(b)), rtol=1e-5, atol=1e-6)


def test_computed_pieces_are_not_copied():
    a = f32(100, 512)
    for name, kernels in (("concat", 3), ("concat of concats", 3), ("stack", 2), ("pad", 2)):
        f = compiled(JOINS[name])
        f(a, a + 1)
        assert f.stats()["kernels"] <= kernels, (name, f.explain())


UPDATES = {
    "from its own": lambda v, x: v[1:-1].assign(v[:-2] + v[2:]),
    "shifted": lambda v, x: v[1:].assign(v[:-1]),
    "shifted back": lambda v, x: v[:-1].assign(v[1:] * 2.0),
    "every other row": lambda v, x: v[::2].assign(x[::2] + v[1::2]),
    "backwards": lambda v, x: v[::-1].assign(x * 2.0),
    "a row": lambda v, x: v[3].assign(x[2] + 1.0),
    "a column": lambda v, x: v[:, 3].assign(x[:, 2] + v[:, 4]),
    "none": lambda v, x: v[2:2].assign(x[:0] * 2.0),
    "all": lambda v, x: v[:].assign(x * 2.0),
    "two of them": lambda v, x: (v[1:].assign(x[1:] + v[:-1]), v[:-1].assign(v[1:] * x[1:])),
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_slices_assigned_from_the_same_variable(name, times):
    def once(v, x):
        UPDATES[name](v, x)
        return v.read_value() + 0.0

    def often(v, x):
        for _ in tj.range(times):
            UPDATES[name](v, x)
        return tj.reduce_sum(v, axis=0)

    start, x = f32(20, 900), f32(20, 900)
    for f in (once, often):
        v, w = tj.Variable(start), tj.Variable(start)
        traced = compiled(lambda x, f=f, w=w: f(w, x))
        for _ in range(2):
            np.testing.assert_allclose(traced(x), f(v, tj.constant(x)), rtol=1e-4, atol=1e-3)
            np.testing.assert_allclose(w.numpy(), v.numpy(), rtol=1e-4, atol=1e-3)


def test_borders_that_differ_from_step_to_step():
    def f(u):
        for i in tj.range(5):
            u = tj.concat([u[1:2] * 2.0, u[1:-1] + u[:-2], u[:1]], axis=0)
        return u

    u = f32(30, 700)
    np.testing.assert_allclose(compiled(f)(u), f(tj.constant(u)), rtol=1e-5)


def test_two_states_that_change_places():
    def f(u, w):
        for _ in tj.range(3):
            u, w = tj.concat([w[:1], u[1:] * 0.5], axis=0), tj.concat([w[:1], u[1:] + 1.0], axis=0)
        return u, w

    u, w = f32(30, 700), f32(30, 700)
    for a, b in zip(compiled(f)(u, w), f(tj.constant(u), tj.constant(w)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_zero_keeps_its_sign_where_results_are_exact():
    def f(x, y):
        return x + tj.pad(y, [[1, 0], [0, 0]])

    x, y = np.full((64, 512), -0.0, np.float32), f32(63, 512)
    np.testing.assert_array_equal(np.signbit(compiled(f, numerics="exact")(x, y)[:1]), np.signbit((x + 0.0)[:1]))
