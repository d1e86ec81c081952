"""Variables made in traced functions: once for each object that keeps them, anew in each call if nothing does."""

import gc
import warnings
import weakref

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ControlFlowError, ConversionWarning, ShapeError

X = np.array([[1.0, -2.0, 3.0]], np.float32)


class Dense:
    """Makes its weights at the first call."""

    def __init__(self, units, initial=None):
        self.units, self.w, self.b, self.tracked = units, None, None, []
        self.initial = initial or (lambda shape: tj.ones(shape) * 0.5)

    def __setattr__(self, name, value):
        if isinstance(value, tj.Variable):
            self.tracked.append(value)
        object.__setattr__(self, name, value)

    def __call__(self, x):
        if self.w is None:
            self.w = tj.Variable(self.initial((x.shape[-1], self.units)), name="w")
            self.b = tj.Variable(tj.zeros((self.units,)))
        return x @ self.w + self.b


def test_weights_are_made_once():
    layer = Dense(2)
    f = tj.function(layer)
    for k in (1.0, 2.0, 3.0):
        assert f(X * k).numpy().tolist() == [[k, k]]
    assert layer.w.numpy().tolist() == [[0.5, 0.5]] * 3
    assert (layer.w.name, layer.w.trainable) == ("w:0", True)
    assert f.experimental_get_tracing_count() == 2
    assert [v is w for v, w in zip(layer.tracked, (layer.w, layer.b), strict=True)] == [True, True]
    layer.w.assign(layer.w * 2.0)
    assert f(X).numpy().tolist() == [[2.0, 2.0]]
    assert f.experimental_get_tracing_count() == 2


def test_the_first_step_of_training_has_gradients():
    def losses(wrap):
        layer, out = Dense(1), []
        forward = wrap(layer.__call__)
        for _ in range(3):
            with tj.GradientTape() as tape:
                loss = tj.reduce_sum(tj.square(forward(tj.constant(X)) - 3.0))
            grads = tape.gradient(loss, [layer.w, layer.b])
            for g, v in zip(grads, (layer.w, layer.b), strict=True):
                v.assign_sub(g * 0.01)
            out.append(float(loss))
        return out

    np.testing.assert_allclose(losses(tj.function), losses(lambda f: f), rtol=1e-6)


def test_a_step_that_makes_the_model_and_the_slots():
    def run(wrap):
        state = {}

        @wrap
        def step(x):
            if "w" not in state:
                state["w"] = tj.Variable(tj.ones((3, 1)))
            with tj.GradientTape() as tape:
                loss = tj.reduce_sum(tj.square(x @ state["w"] - 1.0))
            g = tape.gradient(loss, state["w"])
            if "m" not in state:
                state["m"] = tj.Variable(tj.zeros_like(state["w"]))
            state["m"].assign(state["m"] * 0.5 + g)
            state["w"].assign_sub(state["m"] * 0.01)
            return loss

        out = [float(step(tj.constant(X))) for _ in range(4)]
        return out, state["w"].numpy().tolist(), state["m"].numpy().tolist()

    (a, w, m), (b, v, n) = run(tj.function), run(lambda f: f)
    np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(w, v, rtol=1e-5)
    np.testing.assert_allclose(m, n, rtol=1e-5)


def test_first_values_of_all_kinds():
    array = np.arange(3.0)
    table = {}

    @tj.function
    def f(x, n):
        if not table:
            table["number"] = tj.Variable(2, dtype=tj.float64)
            table["array"] = tj.Variable(array)
            table["argument"] = tj.Variable(x * 2.0)
            table["count"] = tj.Variable(n)
            table["called"] = tj.Variable(lambda: tj.ones((2,)), trainable=False)
            table["of another"] = tj.Variable(table["argument"] + 1.0)
            table["argument"].assign(x * 10.0)
        return x

    f(tj.constant([1.0, 2.0]), 3)
    f(tj.constant([5.0, 6.0]), 4)
    values = {k: v.numpy().tolist() for k, v in table.items()}
    assert values == {
        "number": 2.0, "array": [0, 1, 2], "argument": [10, 20], "count": 3, "called": [1, 1], "of another": [3, 5],
    }  # fmt: skip
    assert [table[k].dtype.name for k in ("number", "array", "count")] == ["float64", "float64", "int32"]
    assert not table["called"].trainable


def test_random_first_values_are_those_of_eager_code():
    def run(wrap):
        tj.random.set_seed(5)
        layer = Dense(2, lambda shape: tj.random.normal(shape))
        f = wrap(layer.__call__)
        first = f(tj.constant(X))
        return first.numpy(), f(tj.constant(X)).numpy(), layer.w.numpy(), tj.random.normal((2,)).numpy()

    traced, eager = run(tj.function), run(lambda f: f)
    for a, b in zip(traced[2:], eager[2:], strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(traced[:2], eager[:2], strict=True):  # products, which have their own order of sums
        np.testing.assert_allclose(a, b, rtol=1e-6)
    y, again, w, _ = run(tj.function)
    np.testing.assert_array_equal(y, again)
    np.testing.assert_allclose(y, X @ w, rtol=1e-6)


def test_local_variables_are_new_in_each_call():
    @tj.function
    def f(x, n):
        v = tj.Variable(tj.zeros_like(x))
        w = tj.Variable(tj.zeros_like(x))
        for _ in tj.range(n):
            v.assign_add(x)
            if v[0] > 2.0:
                w[1].assign(10.0)
        with tj.GradientTape() as tape:
            y = tj.reduce_sum(v * v)
        return v * 1.0, w.read_value(), tape.gradient(y, v)

    for _ in range(2):
        v, w, g = f(tj.constant([1.0, 2.0]), tj.constant(3))
        assert (v.numpy().tolist(), w.numpy().tolist(), g.numpy().tolist()) == ([3, 6], [0, 10], [6, 12])
    assert f.experimental_get_tracing_count() == 1
    assert f.concrete_functions[0].variables == ()


def test_a_local_variable_does_not_carry_gradients_of_its_first_value():
    def run(wrap):
        @wrap
        def f(x):
            v = tj.Variable(x)
            return v * x

        x = tj.constant(3.0)
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return float(tape.gradient(y, x))

    assert run(tj.function) == run(lambda f: f) == 3.0


def test_objects_made_by_the_function_keep_their_variables():
    class Model:
        layer = None

        def __call__(self, x):
            if self.layer is None:
                self.layer = Dense(2)
            return self.layer(x)

    m = Model()
    f = tj.function(m.__call__)
    out = [f(X).numpy().tolist() for _ in range(3)]
    assert out == [[[1.0, 1.0]]] * 3
    layer = m.layer
    f(X)
    assert m.layer is layer
    assert layer.tracked[0] is layer.w


def test_models_share_a_step_function_and_are_collected():
    @tj.function
    def step(layer, x):
        return layer(x)

    layers = [Dense(1), Dense(2)]
    for _ in range(2):
        assert [step(m, X).shape for m in layers] == [(1, 1), (1, 2)]
    refs = [weakref.ref(m) for m in layers]
    del layers
    gc.collect()
    assert [r() for r in refs] == [None, None]


def test_a_failed_first_call_makes_nothing():
    layer = Dense(2)

    @tj.function
    def f(x):
        y = layer(x)
        tj.debugging.assert_greater(x[0, 0], 0.0)
        return y

    with pytest.raises(tj.errors.TracejitError):
        f(-X)
    assert layer.w is None
    assert f(X).numpy().tolist() == [[1.0, 1.0]]


def test_variables_made_anew_in_each_call_and_kept():
    box = {}

    @tj.function
    def f(x):
        box["v"] = tj.Variable(x)
        box["v"].assign_add(x)
        return x

    seen = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(12):
            f(tj.constant(float(k)))
            seen.append(box["v"])
    assert [float(v) for v in seen] == [2.0 * k for k in range(12)]
    assert len(set(map(id, seen))) == 12
    assert [w.category for w in caught] == [ConversionWarning]


def test_shapes_and_places_that_do_not_fit():
    with pytest.raises(ShapeError):
        tj.function(lambda x: tj.Variable(x, shape=(7,)) * 1.0)(X)

    box = []

    @tj.function
    def f(x):
        if x > 0:
            v = tj.Variable(x)
            box.append(v)
        return x

    with pytest.raises((ControlFlowError, tj.errors.ConversionError)):
        f(tj.constant(1.0))
        box[0] * 1.0


# --- initial values that NumPy draws ----------------------------------------------------------------------------------
STATE = np.random.RandomState


class Lazy:
    """Makes its weights at the first call, from the numbers of a generator, of which it draws before and after too."""

    def __init__(self, draw):
        self.rng, self.draw, self.w, self.c = STATE(3), draw, None, None

    def __call__(self, x):
        noise = self.rng.uniform()
        if self.w is None:
            first = self.draw(self.rng, (x.shape[-1], 2)).astype("float32")
            self.w, self.c = tj.Variable(first), tj.Variable(first[0] + self.rng.randn())
            print("made")
        late = self.rng.normal()
        return x @ self.w * noise + self.c + late


DRAWS = {
    "randn": lambda rng, shape: rng.randn(*shape),
    "uniform": lambda rng, shape: rng.uniform(-1, 1, shape) / np.sqrt(shape[0]),
    "seeded": lambda rng, shape: rng.seed(5) or rng.normal(size=shape),
}


@pytest.mark.parametrize("name", DRAWS)
def test_weights_that_numpy_draws_are_drawn_once(name):
    def scene(wrap):
        layer = Lazy(DRAWS[name])
        f = wrap(layer.__call__)
        out = [f(tj.constant(X * k)).numpy() for k in (1.0, 2.0, 3.0)]
        return [*out, layer.w.numpy(), layer.c.numpy(), layer.rng.randn()]

    for got, want in zip(scene(lambda f: tj.function(f, strict=True)), scene(lambda f: f), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_numbers_that_python_draws_are_initial_values():
    import random

    def scene(wrap):
        random.seed(4)
        np.random.seed(4)
        kept = {}

        def f(x):
            if "v" not in kept:
                kept["v"] = tj.Variable(random.sample(range(9), 3), dtype=tj.float32)
                kept["u"] = tj.Variable(np.random.uniform(size=3).astype("float32"))
            return x + kept["v"] * kept["u"]

        f = wrap(f)
        return [f(tj.constant(X)).numpy() for _ in range(3)], random.random(), np.random.rand()

    (a, *rest), (b, *wanted) = scene(lambda f: tj.function(f, strict=True)), scene(lambda f: f)
    np.testing.assert_allclose(a, b)
    assert rest == wanted


def test_gradients_flow_to_weights_that_numpy_draws():
    def scene(wrap):
        layer, out = Lazy(DRAWS["randn"]), []
        f = wrap(layer.__call__)
        for _ in range(2):
            with tj.GradientTape() as tape:
                y = tj.reduce_sum(tj.square(f(tj.constant(X))))
            out += [g.numpy() for g in tape.gradient(y, [layer.w, layer.c])]
        return out

    for got, want in zip(scene(lambda f: tj.function(f, strict=True)), scene(lambda f: f), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4)


def test_initial_values_of_other_calls_name_the_line_of_the_variable():
    kept = []

    @tj.function
    def f(x):
        if not kept:
            start = tj.py_function(lambda: np.float32(2.0), [], tj.float32)
            kept.append(tj.Variable(start))  # this line
        return x * kept[0]

    with pytest.warns(ConversionWarning, match="comes from a call of Python") as said:
        assert float(f(tj.constant(3.0))) == 6.0
    assert "# this line" in str(said[0].message) and "before the first call" in str(said[0].message)
