"""Tapes tell tensors apart by identity: equal ones, and ones that a traced function reads from outside."""

import numpy as np
import pytest

import tracejit as tj

X = 3.0
SCALE = tj.constant(3.0)
TENFOLD = tj.constant(np.linspace(0.5, 2.0, 20), tj.float32)  # more elements than a constant of a graph has


def _eagerly_and_traced(f, *args):
    """The results both ways, as lists of floats."""
    return [[np.asarray(y).tolist() for y in g(*map(tj.constant, args))] for g in (f, tj.function(f))]


# --- equal tensors in regions -----------------------------------------------------------------------------------------
def _conditional(a, b):
    return a * b if b > 0 else a


def _cond(a, b):
    return tj.cond(b > 0, lambda: a * b, lambda: a)


def _statement(a, b):
    y = a
    if b > 0:
        y = a * b + y
    return y


def _while(a, b):
    y = a * 1.0
    while y < 100.0:
        y = y * b + a
    return y


def _for(a, b):
    y = a
    for _ in tj.range(6):
        y = y * 0.5 * b + a
    return y


def _nested(a, b):
    y = a
    for _ in tj.range(6):
        if y < 50.0:
            y = y * b + a
    return y


def _mapped(a, b):
    return tj.reduce_sum(tj.map_fn(lambda r: r * a * b, tj.constant([1.0, 2.0, 3.0, 4.0, 5.0])))


def _vectorized(a, b):
    return tj.reduce_sum(tj.vectorized_map(lambda r: r * a * b, tj.constant([1.0, 2.0])))


def _recomputed(a, b):
    return tj.recompute_grad(lambda x: x * a * b)(a)


@pytest.mark.parametrize(
    "f", [_conditional, _cond, _statement, _while, _for, _nested, _mapped, _vectorized, _recomputed]
)
@pytest.mark.parametrize("equal", [lambda x: x * 2.0, lambda x: tj.stack([x, x])[0], lambda x: tj.square(x)])
def test_equal_tensors_that_a_region_reads_stay_two(f, equal):
    def both(x):
        a, b = equal(x), equal(x)
        with tj.GradientTape(persistent=True) as tape:
            tape.watch(a)
            y = f(a, b)
        with tj.GradientTape() as other:
            other.watch(b)
            z = f(a, b)
        return y, tape.gradient(y, a), other.gradient(z, b)

    eager, traced = _eagerly_and_traced(both, X)
    np.testing.assert_allclose(traced, eager, rtol=1e-5)


def test_a_copy_through_which_no_gradient_flows():
    def f(x):
        b = tj.stop_gradient(x)
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = x
            while y < 100.0:
                y = y * b + x
        return y, tape.gradient(y, x)

    eager, traced = _eagerly_and_traced(f, X)
    assert traced == eager


def test_tangents_of_equal_tensors():
    def f(x):
        a, b = x * 2.0, x * 2.0
        with tj.autodiff.ForwardAccumulator(a, tj.constant(1.0)) as acc:
            y = a * b if b > 0 else a
        return y, acc.jvp(y)

    eager, traced = _eagerly_and_traced(f, X)
    assert traced == eager == [36.0, 6.0]


# --- tensors from outside ---------------------------------------------------------------------------------------------
class Holder:
    def __init__(self, w):
        self.w = w


def _gradients(f, x, sources, order=1):
    """The value, and gradients with respect to x and tensors that `f` reads from outside; of those the gradients."""
    x = tj.constant(x)
    with tj.GradientTape(persistent=True) as outer:
        outer.watch([x, *sources])
        with tj.GradientTape() as tape:
            tape.watch([x, *sources])
            y = f(x)
        first = tape.gradient(y, [x, *sources], unconnected_gradients="zero")
        total = sum(tj.reduce_sum(g * g) for g in first)
    out = [y, *first]
    if order == 2:
        out += outer.gradient(total, [x, *sources], unconnected_gradients="zero")
    return [t.numpy().tolist() for t in out]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    "kind", ["global", "large", "cell", "attribute", "item", "branch", "loop", "nested", "recomputed"]
)
def test_tensors_from_outside_have_gradients(kind, order):
    local, held, items = tj.constant(2.5), Holder(tj.constant(1.5)), [tj.constant(0.5), tj.constant(4.0)]

    def in_loop(x):
        y = x
        while y < 50.0:
            y = y * local + x
        return y

    def in_nested_loops(x):
        y = x
        for _ in tj.range(5):
            if y > 0.1:
                y = y * 0.5 * local
        return y

    functions = {
        "global": (lambda x: x * SCALE + SCALE, [SCALE]),
        "large": (lambda x: tj.reduce_sum(tj.sin(TENFOLD) * x * TENFOLD), [TENFOLD]),
        "cell": (lambda x: tj.sin(x * local), [local]),
        "attribute": (lambda x: x * held.w * 1.5, [held.w]),  # the number equals the tensor and is another
        "item": (lambda x: x**2 * items[1] + items[0], items),
        "branch": (lambda x: x * local if x > 0 else x, [local]),
        "loop": (in_loop, [local]),
        "recomputed": (lambda x: tj.recompute_grad(lambda z: tj.sin(z) * local)(x), [local]),
        "nested": (in_nested_loops, [local]),
    }
    f, sources = functions[kind]
    traced = tj.function(f)
    np.testing.assert_allclose(traced(tj.constant(X)), f(tj.constant(X)), rtol=1e-6)  # the trace is made without tapes
    got, want = [np.hstack(_gradients(g, X, sources, order)) for g in (traced, f)]
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-4)


def test_a_tensor_that_is_argument_and_captured():
    f = tj.function(lambda x: x * SCALE)
    with tj.GradientTape() as tape:
        tape.watch(SCALE)
        y = f(SCALE)
    assert float(tape.gradient(y, SCALE)) == 6.0


def test_a_tensor_from_outside_made_under_the_tape():
    v, x = tj.constant(3.0), tj.constant(2.0)
    f = tj.function(lambda x: x * u)
    for factor in (2.0, 5.0):
        with tj.GradientTape() as tape:
            tape.watch(v)
            u = v * factor
            y = f(x)
        assert float(tape.gradient(y, v)) == 2.0 * factor


@pytest.mark.parametrize("size", [1, 20])
def test_tensors_that_share_an_array(size):
    v = tj.constant([3.0] * size)
    w = tj.stop_gradient(v)

    def f(x):
        return x * v * w

    for g in (f, tj.function(f)):
        with tj.GradientTape() as tape:
            tape.watch(v)
            y = g(tj.constant(2.0))
        assert tape.gradient(y, v).numpy().tolist() == [6.0] * size


def test_tensors_from_outside_are_plain_constants_to_the_optimizer():
    v, w = tj.constant(3.0), tj.constant(3.0)
    f = tj.function(lambda x: tj.sin(x * v) + tj.sin(w * x) + tj.sin(x * 3.0))
    x = tj.constant(2.0)
    assert str(f.graph(x)).count("constant(3.0)") == 3
    assert str(f.graph(x, stage="optimized")).count(" sin(") == 1


def test_only_what_a_tape_knows_is_an_input_of_the_derivative():
    """Constants stay constants for tapes that do not ask for them, and without tapes."""
    v = tj.constant(3.0)
    f = tj.function(lambda x: x * v)
    x = tj.constant(2.0)
    with tj.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    assert float(tape.gradient(y, x)) == 3.0
    assert "constant(3.0)" in str(f.graph(x)) and len(f.graph(x).params) == 1
    (made,) = f.concrete_functions[0].forward.made.values()
    assert len(made[0].graph.params) == 1
    with tj.GradientTape() as tape:
        tape.watch(v)
        y = f(x)
    assert float(tape.gradient(y, v)) == 2.0 and len(f.concrete_functions) == 1


def test_tangents_along_tensors_from_outside():
    v, x = tj.constant(3.0), tj.constant(2.0)
    for f in (lambda x: x * v, tj.function(lambda x: x * v)):
        with tj.autodiff.ForwardAccumulator(v, tj.constant(1.0)) as acc:
            y = f(x)
        assert float(acc.jvp(y)) == 2.0


# --- several gradients of one loop ------------------------------------------------------------------------------------
def test_two_gradients_of_one_loop_go_through_it_once():
    @tj.function
    def f(x):
        with tj.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y, n = x, 0
            while abs(y) < 30.0 and n < 7:
                y = y * y * 0.7 + 1.0
                n += 1
            z = y * x
        return tape.gradient(y, x), tape.gradient(z, x)

    x = tj.constant(1.3)
    np.testing.assert_allclose([float(g) for g in f(x)], [float(g) for g in f.python_function(x)], rtol=1e-5)
    assert str(f.graph(x, stage="optimized")).count(" while") == 1


def test_a_jacobian_through_a_loop():
    @tj.function
    def f(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = x
            while tj.reduce_sum(y) < 30.0:
                y = y * y * 0.7 + x[0]
        return tape.jacobian(y, x)

    x = tj.constant([1.3, 2.0, 0.5])
    np.testing.assert_allclose(f(x), f.python_function(x), rtol=1e-5)


def test_a_gradient_that_needs_only_how_often_a_loop_went():
    """The steps backwards read nothing that the steps forwards stacked."""

    @tj.function
    def f(x):
        a, b = x * 2.0, x * 3.0
        with tj.GradientTape() as tape:
            tape.watch(a)
            y = a * 1.0
            while y < 100.0:
                y = y * b + a
        return tape.gradient(y, a)

    for x in (3.0, 0.7, 100.0):
        assert float(f(tj.constant(x))) == pytest.approx(float(f.python_function(tj.constant(x))))


# --- sizes that only regions need -------------------------------------------------------------------------------------
def test_a_found_size_that_only_a_branch_or_loop_needs():
    """What tells the size stays in the program, although no value outside of the region has it."""

    def in_branch(x):
        m = tj.boolean_mask(x, x > 0).shape[0]
        y = x[0]
        if x[0] > 0:
            y = tj.reduce_sum(tj.ones([m]))
        return y

    def in_loop(x):
        m = tj.boolean_mask(x, x > 0).shape[0]
        y = x[0]
        for _ in tj.range(6):
            y = y + tj.reduce_sum(tj.ones([m]))
        return y

    x = tj.constant([1.0, -2.0, 3.0, 4.0, 5.0, -6.0])
    for f, want in ((in_branch, 4.0), (in_loop, 25.0)):
        assert float(tj.function(f)(x)) == float(f(x)) == want


def test_a_gradient_past_a_list_that_a_loop_fills():
    """The loop backwards has as many steps as the one forwards, of whose steps it reads nothing."""

    def f(x, n):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y, seen = x, [x]
            for i in range(n):
                y = y * 0.8 + 0.03 * i
                seen.append(y * 0.5)
            z = y * 3.0
        return tape.gradient(z, x)

    x, n = tj.constant(2.0), tj.constant(5)
    assert float(tj.function(f)(x, n)) == pytest.approx(float(f(x, n))) == pytest.approx(3.0 * 0.8**5)
