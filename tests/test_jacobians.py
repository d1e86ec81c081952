"""Jacobians, Hessians and products with them: eagerly, in traces, of traced functions, through control flow."""

import numpy as np
import pytest

import tracejit as tj

ForwardAccumulator = tj.autodiff.ForwardAccumulator
RNG = np.random.default_rng(0)
A = RNG.normal(size=(2, 4))


def tanh_layer(x):
    return tj.tanh(x @ A) ** 2


def cubes(x):
    return tj.reduce_sum(tj.sin(x) * x**3)


def looping(x):
    s = x
    i = tj.constant(0)
    while i < 4:
        s = tj.sin(s) * x if tj.reduce_sum(s) > 0 else s * x
        i += 1
    return s




def numeric(f, x, h=1e-5):
    columns = []
    for k in np.ndindex(x.shape):
        d = np.zeros_like(x)
        d[k] = h
        columns.append((f(x + d).numpy() - f(x - d).numpy()) / (2 * h))
    return np.stack(columns, -1).reshape(*columns[0].shape, *x.shape)


@pytest.mark.parametrize("outer", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("inner", [lambda f: f, tj.function], ids=["plain", "of_traced"])
@pytest.mark.parametrize("mode", ["forward", "reverse", None])
@pytest.mark.parametrize("f,shape", [(tanh_layer, (3, 2)), (looping, (3,))], ids=["layer", "loop"])
def test_jacobian_in_both_modes(f, shape, mode, inner, outer):
    x = RNG.uniform(0.2, 1.0, shape)
    j = outer(tj.jacobian(inner(f), mode=mode))(tj.constant(x))
    np.testing.assert_allclose(j.numpy(), numeric(f, x), atol=1e-8)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_jacobian_of_nests(mode):
    def f(p, q):
        return {"s": p["a"] * q, "t": tj.reduce_sum(p["b"])}

    p, q = {"a": tj.constant([1.0, 2.0]), "b": tj.constant([3.0])}, tj.constant(2.0)
    j = tj.jacobian(f, argnums=(0, 1), mode=mode)(p, q)
    (by_p, by_q), (t_p, t_q) = j["s"], j["t"]
    assert by_p["a"].numpy().tolist() == [[2.0, 0.0], [0.0, 2.0]]
    assert by_p["b"].numpy().tolist() == [[0.0], [0.0]]
    assert by_q.numpy().tolist() == [1.0, 2.0]
    assert (t_p["a"].numpy().tolist(), t_p["b"].numpy().tolist(), float(t_q)) == ([0.0, 0.0], [1.0], 0.0)


def test_the_mode_with_fewer_passes(monkeypatch):
    used = []
    forward = tj.autodiff.functional._forward
    monkeypatch.setattr(tj.autodiff.functional, "_forward", lambda *a: used.append("forward") or forward(*a))
    tj.jacobian(lambda x: tj.stack([x, x, x]))(tj.constant(1.0))
    assert used == ["forward"]
    tj.jacobian(tj.reduce_sum)(tj.ones(3))
    assert used == ["forward"]


def test_edges_of_jacobians():
    assert tj.jacobian(lambda x: x * 2)(tj.zeros((0,))).shape == (0, 0)
    assert tj.jacobian(lambda x: x * 2, mode="forward")(tj.zeros((0,))).shape == (0, 0)
    assert tj.jacobian(lambda x: x * x)(3.0).numpy() == 6.0
    with pytest.raises(tj.errors.GradientError, match="floating"):
        tj.jacobian(lambda x: x)(tj.constant([1]))
    with pytest.raises(tj.errors.ArgumentError, match="mode"):
        tj.jacobian(cubes, mode="sideways")
    with pytest.raises(tj.errors.ArgumentError, match="argnums"):
        tj.jacobian(cubes, argnums=1)(tj.ones(2))


@pytest.mark.parametrize("at_once", [True, False])
def test_jacobians_of_a_tape(at_once):
    x, v, c = tj.constant(RNG.normal(size=(3, 2))), tj.Variable(A), tj.constant(1.0)
    with tj.GradientTape() as tape:
        tape.watch([x, c])
        y = tj.tanh(x @ v)
    jx, jv, jc = tape.jacobian(y, [x, v, c], experimental_use_pfor=at_once)
    np.testing.assert_allclose(jx.numpy(), numeric(lambda t: tj.tanh(tj.constant(t) @ A), x.numpy()), atol=1e-8)
    np.testing.assert_allclose(jv.numpy(), numeric(lambda t: tj.tanh(x @ t), A), atol=1e-8)
    assert jc is None
    with pytest.raises(tj.errors.GradientError, match="persistent"):
        tape.jacobian(y, x)


def test_jacobians_where_the_gradient_asks_for_values():
    """They cannot be computed for all rows at once, so they are computed one by one."""

    @tj.custom_gradient
    def f(x):
        return x * 2.0, lambda g: g * float(np.max(g.numpy()) > 0) * 2.0

    x = tj.constant([1.0, 2.0])
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    assert tape.jacobian(y, x).numpy().tolist() == [[2.0, 0.0], [0.0, 2.0]]


def test_batch_jacobian():
    def rows(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tanh_layer(x)
        return tape.batch_jacobian(y, x)

    x = RNG.normal(size=(3, 2))
    full = numeric(lambda t: tanh_layer(tj.constant(t)), x)
    expected = np.stack([full[i, :, i] for i in range(3)])
    np.testing.assert_allclose(rows(tj.constant(x)).numpy(), expected, atol=1e-8)
    traced = tj.function(rows, input_signature=[tj.TensorSpec([None, 2], tj.float64)])
    np.testing.assert_allclose(traced(x).numpy(), expected, atol=1e-8)
    assert traced(x[:1]).shape == (1, 4, 2)
    with tj.GradientTape(persistent=True) as tape:
        t = tj.constant(x)
        tape.watch(t)
        y, z = tanh_layer(t), tj.ones((2, 2))
    np.testing.assert_allclose(tape.batch_jacobian(y, t, experimental_use_pfor=False).numpy(), expected, atol=1e-8)
    assert tape.batch_jacobian(tj.ones((3, 1)), t) is None
    assert tape.batch_jacobian(tj.ones((3, 1)), t, unconnected_gradients="zero").shape == (3, 1, 2)
    with pytest.raises(tj.errors.ShapeError, match="rows"):
        tape.batch_jacobian(z, t)
    with pytest.raises(tj.errors.ArgumentError, match="rows"):
        tape.batch_jacobian(tj.reduce_sum(y), t)


@pytest.mark.parametrize("outer", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("f", [cubes, lambda x: tj.reduce_sum(looping(x))], ids=["cubes", "loop"])
@pytest.mark.parametrize("inner", [lambda f: f, tj.function], ids=["plain", "of_traced"])
def test_hessian_and_its_products(f, inner, outer):
    x, d = tj.constant(RNG.uniform(0.2, 1.0, (3,))), RNG.normal(size=(3,))
    h = outer(tj.hessian(inner(f)))(x).numpy()

    def gradient(t):
        with tj.GradientTape() as tape:
            t = tj.constant(t)
            tape.watch(t)
            y = f(t)
        return tape.gradient(y, t)

    np.testing.assert_allclose(h, numeric(gradient, x.numpy()), atol=1e-7)
    (p,) = outer(lambda x: tj.hvp(inner(f), [x], [d]))(x)
    np.testing.assert_allclose(p.numpy(), h @ d, atol=1e-12)
    reverse = tj.jacobian(tj.jacobian(f, mode="reverse"), mode="reverse")(x)
    np.testing.assert_allclose(reverse.numpy(), h, atol=1e-12)


def test_products_with_the_hessian_of_several_arguments():
    p = tj.hvp(lambda a, b: tj.reduce_sum(a * a * b), [[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]])
    assert [x.numpy().tolist() for x in p] == [[6.0, 4.0], [2.0, 0.0]]
    with pytest.raises(tj.errors.ShapeError, match="one number"):
        tj.hvp(lambda a: a * a, [[1.0, 2.0]], [[1.0, 0.0]])


# --- orders and modes through control flow ----------------------------------------------------------------------------
def powers(x):
    """x ** 6 in a loop with a branch."""
    s, i = tj.constant(1.0, tj.float64), tj.constant(0)
    while i < 3:
        if x > 0:
            s = s * x * x
        else:
            s = s * x
        i += 1
    return s


def reverse(f):
    def d(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    return d


def forward(f):
    return lambda x: tj.jvp(f, [x], [tj.ones_like(x)])[1]


@pytest.mark.parametrize("modes", ["rrrr", "ffff", "frfr", "rffr"])
@pytest.mark.parametrize("outer", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_orders_to_four(modes, outer):
    f, x, expected = tj.function(powers), 1.5, [6 * 1.5**5, 30 * 1.5**4, 120 * 1.5**3, 360 * 1.5**2]
    for order, mode in enumerate(modes):
        f = (reverse if mode == "r" else forward)(f)
        assert float(outer(f)(tj.constant(x, tj.float64))) == pytest.approx(expected[order])


@pytest.mark.parametrize("outer", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_tangents_along_variables_that_traced_functions_read(outer):
    v = tj.Variable(3.0)
    f = tj.function(lambda x: x * v * v)

    def run(x):
        with ForwardAccumulator([v], [tj.constant(1.0)]) as a, ForwardAccumulator([v], [tj.constant(1.0)]) as b:
            y = f(x)
        return a.jvp(y), b.jvp(a.jvp(y)) if b.jvp(a.jvp(y)) is not None else tj.constant(0.0)

    assert float(outer(run)(tj.constant(2.0))[0]) == 12.0


@pytest.mark.parametrize("outer", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_custom_gradients_with_variables_nested_and_in_loops(outer):
    u, v = tj.Variable(2.0), tj.Variable(3.0)

    @tj.custom_gradient
    def inner(x):
        return x * v, lambda g, variables=None: (g * v, [g * x])

    @tj.custom_gradient
    def around(x):
        def back(g, variables=None):
            assert len(variables) == 2
            return g * 5.0, [g * 7.0 for _ in variables]

        return inner(x) * u, back

    def three(x):
        for _ in tj.range(3):
            x = inner(x)
        return x

    def gradients(f, x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, [x, u, v], unconnected_gradients="zero")

    for f in (around, tj.function(around)):
        assert [float(g) for g in outer(lambda x, f=f: gradients(f, x))(tj.constant(2.0))] == [5.0, 7.0, 7.0]
    for f in (three, tj.function(three)):
        assert [float(g) for g in outer(lambda x, f=f: gradients(f, x))(tj.constant(2.0))] == [27.0, 0.0, 54.0]


def test_a_training_loop_with_its_tape_is_compiled():
    v = tj.Variable([1.0, 2.0])

    @tj.function(strict=True)
    def train(n):
        loss = tj.constant(0.0)
        for _ in tj.range(n):
            with tj.GradientTape() as tape:
                loss = tj.reduce_sum(v**2)
            g = tape.gradient(loss, v)
            v.assign_sub(0.25 * g)
        return loss

    assert float(train(tj.constant(3))) == 5 * 0.25**2
    assert v.numpy().tolist() == [0.125, 0.25]


# --- through loops whose number of steps the program finds out --------------------------------------------------------
START, ROWS = np.array([0.9, 1.1, 0.7]), np.random.default_rng(1).uniform(0.7, 1.2, (4, 3))
EYE = np.eye(3)


def growing(x):
    y = x
    while tj.reduce_sum(y * y) < 30.0:
        y = y * y + x
    return tj.reduce_sum(y**2)


def twice_growing(x):
    y = x
    while tj.reduce_sum(y) < 9.0:
        z = y
        while tj.reduce_sum(z * z) < 20.0:
            z = z * 1.5 + x
        y = y + 0.3 * z
    return tj.reduce_sum(y * y * x)


def stacking(x):
    y, states = x, []
    while tj.reduce_sum(y * y) < 30.0:
        y = y * y + x
        states.append(y)
    return tj.reduce_sum(tj.stack(states) ** 2)


def selecting(x):
    v = tj.boolean_mask(x, x > 0.8)
    return tj.reduce_sum(v**3) + tj.reduce_sum(v) ** 2


def tape_hessian(f):
    def h(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            g = reverse(f)(x)
        return tape.jacobian(g, x)

    return h


def columns(x):
    with tj.GradientTape() as tape:
        tape.watch(x)
        g = reverse(growing)(x)
    return tape.batch_jacobian(g, x)


def of_hessian(x):
    with tj.GradientTape() as tape:
        tape.watch(x)
        h = tape_hessian(growing)(x)
    return tape.jacobian(h, x)


def hessian_in_a_loop(x):
    s, i = x, 0
    while i < 3:
        s = s + 1e-4 * tj.linalg.matvec(tape_hessian(growing)(s), x)
        i += 1
    return s


def products(pull):
    """Rows that pull unit vectors back through a gradient as `pull(product, vector)` says."""

    def f(x):
        with tj.GradientTape(persistent=True) as tape:
            tape.watch(x)
            g = reverse(growing)(x)
        return tj.vectorized_map(
            lambda v: pull(lambda u: tape.gradient(g, x, output_gradients=u), v), tj.constant(EYE)
        )

    return f


def in_a_loop(product, v):
    while tj.reduce_sum(v) > 1e-3:
        v = product(v) * 1e-4
    return v


def own_loop_again(limit):
    """Rows that differentiate their own gradient again where a condition holds."""

    def row(r):
        with tj.GradientTape(persistent=True) as tape:
            tape.watch(r)
            g = reverse(growing)(r)

        def deeper():
            return tj.cond(r[1] > 1.0, lambda: tape.gradient(g, r) * 2.0, lambda: -g)

        return tj.cond(r[0] > limit, deeper, lambda: g)

    return row


HESSIAN = tape_hessian(growing)
FOUND = {
    "tape": (HESSIAN, START), "nested loops": (tape_hessian(twice_growing), START),
    "a list of states": (tape_hessian(stacking), START), "a mask": (tape_hessian(selecting), START),
    "rows of a batch": (columns, ROWS), "third order": (of_hessian, START), "in a loop": (hessian_in_a_loop, START),
    "jacobian of a gradient": (tj.jacobian(reverse(growing), mode="reverse"), START),
    "recomputed": (tape_hessian(tj.recompute_grad(growing)), START),
    "gradient of a Hessian": (reverse(lambda x: tj.reduce_sum(HESSIAN(x) ** 2)), START),
    "each row": (lambda x: tj.vectorized_map(HESSIAN, x), ROWS),
    "each row, nested loops": (lambda x: tj.vectorized_map(tape_hessian(twice_growing), x), ROWS),
    "rows of rows": (lambda x: tj.vectorized_map(lambda r: tj.vectorized_map(HESSIAN, r), x), ROWS[None]),
    "some rows": (products(lambda p, v: tj.cond(v[0] > 0.5, lambda: p(v), lambda: v)), START),
    "no rows": (products(lambda p, v: tj.cond(v[0] > 5.0, lambda: p(v), lambda: v)), START),
    "rows in loops": (products(in_a_loop), START),
    "rows under conditions": (lambda x: tj.vectorized_map(own_loop_again(0.9), x), ROWS),
    "gradient of rows under conditions": (
        reverse(lambda x: tj.reduce_sum(tj.vectorized_map(own_loop_again(0.9), x) ** 2)), ROWS
    ),
    "no rows under conditions": (lambda x: tj.vectorized_map(own_loop_again(9.0), x), ROWS),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_traced_jacobians_through_loops_of_found_lengths(name):
    """One trace for arguments for which the loops take different numbers of steps."""
    f, x = FOUND[name]
    traced = tj.function(f, strict=True)
    for scale in (1.0, 1.1, 0.95):
        np.testing.assert_allclose(traced(tj.constant(x * scale)), f(tj.constant(x * scale)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("outer", [lambda f: f, tj.function], ids=["eager", "traced"])
@pytest.mark.parametrize("f", [growing, twice_growing, stacking, selecting])
def test_hessians_of_tapes_through_found_sizes(f, outer):
    expected = numeric(lambda x: reverse(f)(tj.constant(x)), START)
    h = outer(tape_hessian(f))
    np.testing.assert_allclose(h(tj.constant(START)), expected, rtol=1e-6, atol=1e-6)
    rows = outer(lambda x: tj.vectorized_map(tape_hessian(f), x))(tj.constant([START, START]))
    np.testing.assert_allclose(rows[1], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("outer", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_forward_jacobians_of_sizes_that_values_tell(outer):
    x = tj.constant(np.arange(6.0).reshape(2, 3))
    for f in (
        lambda x: tj.dynamic_partition(x, tj.constant([0, 1]), 2)[0],
        lambda x: tj.boolean_mask(x, tj.constant([True, False])),
    ):
        for mode in ("forward", "reverse"):
            got = outer(tj.jacobian(f, mode=mode))(x)
            np.testing.assert_array_equal(got, np.eye(6)[:3].reshape(1, 3, 2, 3))


@pytest.mark.parametrize("outer", [lambda f: f, tj.function], ids=["eager", "traced"])
def test_products_with_nests_of_primals(outer):
    def f(p, c):
        return tj.reduce_sum(p["a"] ** 2 * p["b"][0]) * c

    x, y, c = tj.constant([1.0, 2.0]), tj.constant([3.0, 4.0]), tj.constant(2.0)

    @outer
    def run(x, y, c):
        p = {"a": x, "b": (y,)}
        value, back = tj.vjp(f, p, c)
        pushed = tj.jvp(f, (p, c), ({"a": tj.ones_like(x), "b": (tj.zeros_like(y),)}, 0.0))[1]
        twice = tj.hvp(f, (p, c), ({"a": tj.ones_like(x), "b": (tj.zeros_like(y),)}, 0.0))
        return value, back(1.0), pushed, twice

    value, (first, second), pushed, twice = run(x, y, c)
    assert float(value) == 38 and float(second) == 19 and float(pushed) == 44
    assert first["a"].numpy().tolist() == [12, 32] and first["b"][0].numpy().tolist() == [2, 8]
    assert twice[0]["a"].numpy().tolist() == [12, 16] and float(twice[1]) == 22
    assert tj.jvp(lambda v: v * 2, ([1.0, 2.0],), ([1.0, 0.0],))[1].numpy().tolist() == [2, 0]
    with pytest.raises(tj.errors.ArgumentError, match="no nest like its primal"):
        tj.jvp(f, ({"a": x, "b": (y,)}, c), ({"a": x}, 0.0))
