"""Variables in traced functions: program order, updates in place, snapshots, optimizers written out."""

import re

import numpy as np
import pytest

import tracejit as tj

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def address(v):
    return v._a.ctypes.data


def nothing(_):
    return None


def both(make, *args, calls=3):
    """Results and Variables of a function made by `make(variables…)`, run eagerly and traced."""
    out = []
    for wrapper in (lambda f: f, tj.function):
        f, variables = make()
        f = wrapper(f)
        results = [f(*args) for _ in range(calls)]
        flat = [np.asarray(t) for r in results for t in (r if isinstance(r, tuple) else (r,)) if t is not None]
        out.append((flat, [np.asarray(v) for v in variables]))
    (eager, eager_state), (traced, traced_state) = out
    for a, b in zip([*eager, *eager_state], [*traced, *traced_state], strict=True):
        assert a.dtype == b.dtype
        wide = np.complex128 if a.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(b.astype(wide), a.astype(wide), rtol=1e-5, atol=1e-6)
    return traced, traced_state


# --- assigning --------------------------------------------------------------------------------------------------------
def test_assigning_in_program_order():
    def make():
        v = tj.Variable(X)

        def f(x):
            a = v * 1.0
            v.assign(x)
            b = v + 0.0
            v.assign_add(x)
            v.assign_sub(a)
            c = v * 2.0
            v[0, 1].assign(-5.0)
            v[1].assign(v[0])
            return a, b, c, v[:, 1]

        return f, [v]

    _, (state,) = both(make, X + 1)
    assert state[0].tolist() == state[1].tolist()
    assert state[0, 1] == -5


def test_reading_before_and_after():
    v = tj.Variable(1.0)

    @tj.function
    def f():
        before = v.read_value()
        v.assign(before * 2.0)
        middle = v.value()
        v.assign_add(10.0)
        return before, middle, v

    assert [float(t) for t in f()] == [1, 2, 12]
    assert [float(t) for t in f()] == [12, 24, 34]
    assert float(v) == 34


def test_swap():
    def make():
        v, w = tj.Variable(X), tj.Variable(-X)

        def f():
            a = v.read_value()
            v.assign(w)
            w.assign(a)

        return f, [v, w]

    _, (a, b) = both(make, calls=3)
    assert np.array_equal(a, -X)
    assert np.array_equal(b, X)


def test_rotation_of_three_and_sums():
    def make():
        vs = [tj.Variable(np.float64(k) + np.arange(5.0)) for k in (1, 10, 100)]

        def f(x):
            a, b, c = (v * 1.0 for v in vs)
            vs[0].assign(b + x)
            vs[1].assign(c)
            vs[2].assign(a - b)
            return tj.add_n([v * 1.0 for v in vs])

        return f, vs

    both(make, np.ones(5), calls=4)


def test_mutual_updates():
    def make():
        p, q = tj.Variable(np.arange(20.0)), tj.Variable(np.ones(20))

        def f(h):
            a, b = p + 0.0, q + 0.0
            p.assign(a + h * b)
            q.assign(b - h * a)
            return tj.reduce_sum(p * p + q * q)

        return f, [p, q]

    both(make, 0.125, calls=5)


def test_one_value_for_two_variables():
    def make():
        v, w, u = tj.Variable(X), tj.Variable(X), tj.Variable(X)

        def f(x):
            y = x * 2.0
            v.assign(y)
            w.assign(y)
            u.assign(x)
            return y, y

        return f, [v, w, u]

    both(make, X)


def test_variables_do_not_share_memory_afterwards():
    v, w = tj.Variable(X), tj.Variable(X)

    @tj.function
    def copy(x):
        v.assign(x)
        w.assign(v)

    @tj.function
    def grow():
        v.assign_add(1.0)

    x = tj.constant(X * 3)
    copy(x)
    grow()
    assert np.array_equal(v.numpy(), X * 3 + 1)
    assert np.array_equal(w.numpy(), X * 3)
    assert np.array_equal(x.numpy(), X * 3)
    v.assign(w)
    grow()
    assert np.array_equal(w.numpy(), X * 3)
    assert np.array_equal(v.numpy(), X * 3 + 1)


def test_assigning_an_argument_keeps_it():
    v = tj.Variable(X)
    f = tj.function(lambda x: nothing(v.assign(x)))
    grow = tj.function(lambda: nothing(v.assign_add(1.0)))
    x = tj.constant(X)
    a = X.copy()
    f(x)
    grow()
    f(a)
    grow()
    assert np.array_equal(x.numpy(), X)
    assert np.array_equal(a, X)
    assert np.array_equal(v.numpy(), X + 1)


def test_assigning_what_was_read_changes_nothing():
    v = tj.Variable(X)

    @tj.function
    def f(x):
        old = v.read_value()
        v.assign_add(x)
        v.assign(old)
        return v + x

    assert np.array_equal(f(X), X + X)
    assert np.array_equal(v.numpy(), X)


def test_broadcast_updates():
    def make():
        v = tj.Variable(np.zeros((4, 3), np.float32))

        def f(x):
            v.assign_add(x)
            v.assign_sub(2.0)
            v.assign_add(tj.ones((4, 1)))
            return tj.reduce_sum(v)

        return f, [v]

    both(make, np.arange(3, dtype=np.float32))


@pytest.mark.parametrize(
    "key", [0, -1, (slice(None), 1), (1, 2), (slice(0, 2), slice(1, None)), slice(None, None, 2), Ellipsis, (..., -1)]
)
def test_slices(key):
    def make():
        v = tj.Variable(np.arange(12.0).reshape(4, 3))

        def f(x):
            v[key].assign(x)
            a = v * 1.0
            v[key].assign_add(1.0)
            v[key].assign_sub(0.25)
            return a, v[key]

        return f, [v]

    both(make, 7.0)


# --- in place ---------------------------------------------------------------------------------------------------------
def test_the_buffer_stays():
    v, w = tj.Variable(np.ones((50, 40), np.float32)), tj.Variable(np.ones(40, np.float32))

    @tj.function
    def f(x):
        v.assign_add(x * w)
        w.assign(w * 0.5)
        return tj.reduce_sum(v)

    f(np.ones((50, 40), np.float32))
    where = address(v), address(w)
    for _ in range(3):
        f(np.ones((50, 40), np.float32))
        assert (address(v), address(w)) == where
    assert "in place" in f.explain(np.ones((50, 40), np.float32))
    np.testing.assert_allclose(v.numpy()[0, 0], 1 + 1 + 0.5 + 0.25 + 0.125)


@pytest.mark.parametrize(
    "snapshot", [lambda v: v.numpy(), lambda v: v.read_value(), lambda v: tj.identity(v), np.asarray, lambda v: v[1:]]
)
def test_snapshots_do_not_change(snapshot):
    v = tj.Variable(np.ones(10, np.float32))
    step = tj.function(lambda: nothing(v.assign_add(1.0)))
    step()
    kept = snapshot(v)
    step()
    step()
    assert np.all(np.asarray(kept) == 2)
    assert np.all(v.numpy() == 4)
    del kept
    where = address(v)
    step()
    assert address(v) == where


def test_a_result_that_is_a_variable_is_a_snapshot():
    v = tj.Variable(np.ones(10, np.float32))

    @tj.function
    def step():
        v.assign_add(1.0)
        return v

    a = step()
    b = step()
    assert np.all(a.numpy() == 2)
    assert np.all(b.numpy() == 3)


def test_a_slice_update_in_a_large_variable():
    v = tj.Variable(np.zeros((1000, 8)))
    f = tj.function(lambda x: nothing(v[3].assign(x)))
    f(np.ones(8))
    f(np.full(8, 2.0))
    assert v.numpy().sum() == 16
    assert np.all(v.numpy()[3] == 2)


def test_assignments_outside_are_seen():
    v = tj.Variable(X)
    f = tj.function(lambda: v * 2.0)
    assert np.array_equal(f(), X * 2)
    v.assign(X + 1)
    assert np.array_equal(f(), X * 2 + 2)
    v[0, 0].assign(50.0)
    assert f().numpy()[0, 0] == 100
    assert f.experimental_get_tracing_count() == 1


# --- kinds of Variables -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "dtype", ["int8", "int32", "int64", "uint8", "uint32", "float16", "bfloat16", "float32", "float64"]
)
@pytest.mark.parametrize("shape", [(), (1,), (17,), (3, 33), (0, 4)])
def test_dtypes_and_shapes(dtype, shape):
    def make():
        v = tj.Variable(tj.cast(tj.ones(shape), dtype))

        def f(x):
            v.assign_add(x)
            v.assign(v * 2)
            v.assign_sub(1)
            return v * 1

        return f, [v]

    x = np.asarray(tj.cast(tj.ones(shape) * 2, dtype))
    both(make, x)


def test_bool_variables():
    def make():
        v = tj.Variable([True, False, True, False])

        def f(x):
            v.assign(tj.math.logical_xor(v, x))
            return tj.logical_not(v), tj.reduce_any(v)

        return f, [v]

    both(make, np.array([True, True, False, False]))


def test_complex_variables():
    def make():
        v = tj.Variable(np.array([1 + 2j, 3j]))

        def f(x):
            v.assign(v * x)
            return tj.abs(tj.math.real(v))

        return f, [v]

    both(make, np.array([1j, 2.0]))


def test_counters():
    step = tj.Variable(0, dtype=tj.int64)
    rate = tj.Variable(1.0)

    @tj.function
    def f():
        step.assign_add(1)
        rate.assign(1.0 / (1.0 + tj.cast(step, tj.float32)))
        return step * 1

    assert [int(f()) for _ in range(4)] == [1, 2, 3, 4]
    np.testing.assert_allclose(float(rate), 0.2)


def test_returned_assignments_and_conditions():
    v = tj.Variable(3.0)

    @tj.function
    def f(x):
        return v.assign_add(x) * 2.0

    assert float(f(1.0)) == 8.0
    assert float(f(0.5)) == 9.0


# --- optimizers -------------------------------------------------------------------------------------------------------
def network(seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(5, 16), (16,), (16, 3), (3,)]
    return [tj.Variable(rng.normal(size=s) * 0.3) for s in shapes]


def loss_of(params, x, y):
    w1, b1, w2, b2 = params
    h = tj.nn.relu(x @ w1 + b1)
    return tj.reduce_mean(tj.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=h @ w2 + b2))


def sgd(params, slots, grads, t):
    for p, g in zip(params, grads):
        p.assign_sub(0.1 * g)


def momentum(params, slots, grads, t):
    for p, m, g in zip(params, slots, grads):
        m.assign(0.9 * m + g)
        p.assign_sub(0.1 * (g + 0.9 * m))


def adam(params, slots, grads, t):
    t.assign_add(1.0)
    rate = 0.01 * tj.sqrt(1.0 - 0.999**t) / (1.0 - 0.9**t)
    for p, m, s, g in zip(params, slots, slots[len(params) :], grads):
        m.assign_add((g - m) * 0.1)
        s.assign_add((g * g - s) * 0.001)
        p.assign_sub(rate * m / (tj.sqrt(s) + 1e-7))


@pytest.mark.parametrize("rule", [sgd, momentum, adam])
def test_training_steps(rule):
    rng = np.random.default_rng(1)
    data = [(rng.normal(size=(n, 5)), rng.integers(0, 3, n)) for n in (8, 8, 5, 8, 12)]

    def run(wrapper):
        params = network()
        slots = [tj.Variable(np.zeros(p.shape)) for p in params * 2]
        t = tj.Variable(0.0, dtype=tj.float64)

        @wrapper
        def step(x, y):
            with tj.GradientTape() as tape:
                loss = loss_of(params, x, y)
            rule(params, slots, tape.gradient(loss, params), t)
            return loss

        losses = [float(step(x, y)) for x, y in data]
        return losses, [v.numpy() for v in (*params, *slots, t)], step

    eager, state, _ = run(lambda f: f)
    traced, traced_state, step = run(tj.function)
    np.testing.assert_allclose(traced, eager, rtol=1e-9)
    for a, b in zip(state, traced_state):
        np.testing.assert_allclose(b, a, rtol=1e-8, atol=1e-12)
    assert step.experimental_get_tracing_count() == 2
    copied = [int(n) for n in re.findall(r"copy %\d+ to %\d+, (\d+) bytes", step.explain(*data[0]))]
    assert all(n == 8 for n in copied)  # every Variable but the counter is updated where it lies


def test_a_step_that_clips_and_averages():
    def make():
        params = network(3)
        average = [tj.Variable(p.numpy() * 0) for p in params]
        rng = np.random.default_rng(2)
        x, y = rng.normal(size=(6, 5)), rng.integers(0, 3, 6)

        def step():
            with tj.GradientTape() as tape:
                loss = loss_of(params, x, y)
            grads, norm = tj.clip_by_global_norm(tape.gradient(loss, params), 0.1)
            for p, a, g in zip(params, average, grads):
                p.assign_sub(g)
                a.assign(0.9 * a + 0.1 * p)
            return loss, norm

        return step, [*params, *average]

    both(make, calls=4)
