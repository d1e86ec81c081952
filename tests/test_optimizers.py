"""Optimizers: their rules in NumPy, the options of all, and their state, in traced functions too."""

import math
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, DTypeError, GradientError, ShapeError

O = tj.optimizers
EXACT = 1e-7


# --- the rules, as the papers have them, one step at a time in float64 ------------------------------------------------
def sgd(w, g, s, t, lr=0.1, momentum=0.0, nesterov=False):
    s["m"] = momentum * s.get("m", 0.0) - lr * g
    return w + (momentum * s["m"] - lr * g if nesterov else s["m"])


def adam(w, g, s, t, lr=0.05, b1=0.9, b2=0.999, amsgrad=False, eps=EXACT):
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * np.abs(g) ** 2
    s["top"] = np.maximum(s.get("top", 0.0), s["v"]) if amsgrad else s["v"]
    return w - lr * math.sqrt(1 - b2**t) / (1 - b1**t) * s["m"] / (np.sqrt(s["top"]) + eps)


def adamax(w, g, s, t, lr=0.05, b1=0.9, b2=0.999):
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["u"] = np.maximum(b2 * s.get("u", 0.0), np.abs(g))
    return w - lr / (1 - b1**t) * s["m"] / (s["u"] + EXACT)


def nadam(w, g, s, t, lr=0.05, b1=0.9, b2=0.999):
    u, ahead = (b1 * (1 - 0.5 * 0.96**k) for k in (t, t + 1))
    s["p"] = s.get("p", 1.0) * u
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * np.abs(g) ** 2
    m = ahead * s["m"] / (1 - s["p"] * ahead) + (1 - u) * g / (1 - s["p"])
    return w - lr * m / (np.sqrt(s["v"] / (1 - b2**t)) + EXACT)


def lion(w, g, s, t, lr=0.01, b1=0.9, b2=0.99):
    m = s.get("m", 0.0)
    along = b1 * m + (1 - b1) * g
    s["m"] = b2 * m + (1 - b2) * g
    return w - lr * (along / np.abs(along) if np.iscomplexobj(along) else np.sign(along))


def rmsprop(w, g, s, t, lr=0.05, rho=0.9, momentum=0.0, centered=False):
    s["v"] = rho * s.get("v", 0.0) + (1 - rho) * np.abs(g) ** 2
    s["a"] = rho * s.get("a", 0.0) + (1 - rho) * g
    size = s["v"] - np.abs(s["a"]) ** 2 if centered else s["v"]
    s["m"] = momentum * s.get("m", 0.0) + lr * g / np.sqrt(size + EXACT)
    return w - s["m"]


def adagrad(w, g, s, t, lr=0.1, start=0.1):
    s["a"] = s.get("a", start) + np.abs(g) ** 2
    return w - lr * g / np.sqrt(s["a"] + EXACT)


def adadelta(w, g, s, t, lr=1.0, rho=0.95):
    s["a"] = rho * s.get("a", 0.0) + (1 - rho) * np.abs(g) ** 2
    step = np.sqrt(s.get("d", 0.0) + EXACT) / np.sqrt(s["a"] + EXACT) * g
    s["d"] = rho * s.get("d", 0.0) + (1 - rho) * np.abs(step) ** 2
    return w - lr * step


def ftrl(w, g, s, t, lr=0.1, l1=0.01, l2=0.02, shrinkage=0.01, beta=0.1, power=0.5):
    a = s.get("a", 0.1)
    s["a"] = a + g**2
    s["z"] = s.get("z", 0.0) + g + 2 * shrinkage * w - (s["a"] ** power - a**power) / lr * w
    return (np.clip(s["z"], -l1, l1) - s["z"]) / (s["a"] ** power / lr + 2 * l2 + beta / lr)


L = "regularization_strength"
RULES = {
    "SGD": (lambda **o: O.SGD(0.1, **o), sgd, {}),
    "momentum": (lambda **o: O.SGD(0.1, momentum=0.9, **o), sgd, {"momentum": 0.9}),
    "Nesterov": (lambda **o: O.SGD(0.1, 0.9, nesterov=True, **o), sgd, {"momentum": 0.9, "nesterov": True}),
    "Adam": (lambda **o: O.Adam(0.05, **o), adam, {}),
    "AMSGrad": (lambda **o: O.Adam(0.05, beta_2=0.9, amsgrad=True, **o), adam, {"amsgrad": True, "b2": 0.9}),
    "Adamax": (lambda **o: O.Adamax(0.05, **o), adamax, {}),
    "Nadam": (lambda **o: O.Nadam(0.05, **o), nadam, {}),
    "Lion": (lambda **o: O.Lion(0.01, **o), lion, {}),
    "RMSprop": (lambda **o: O.RMSprop(0.05, **o), rmsprop, {}),
    "centred RMSprop": (
        lambda **o: O.RMSprop(0.05, momentum=0.5, centered=True, **o), rmsprop, {"momentum": 0.5, "centered": True}
    ),
    "Adagrad": (lambda **o: O.Adagrad(0.1, **o), adagrad, {}),
    "Adadelta": (lambda **o: O.Adadelta(1.0, **o), adadelta, {}),
    "Ftrl": (
        lambda **o: O.Ftrl(0.1, beta=0.1, **{f"l1_{L}": 0.01, f"l2_{L}": 0.02, f"l2_shrinkage_{L}": 0.01}, **o),
        ftrl, {},
    ),
}  # fmt: skip
STEPS = 20


def problem(dtype="float32", shapes=((4, 3), (3,))):
    rng = np.random.default_rng(0)

    def some(shape):
        x = rng.standard_normal(shape)
        return x + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else x

    weights = [some(s) for s in shapes]
    return weights, [[some(s) * (1 + k % 3) for s in shapes] for k in range(STEPS)]


def after_steps(optimizer, weights, gradients, traced, dtype="float32"):
    variables = [tj.Variable(tj.cast(w, dtype)) for w in weights]

    def step(*grads):
        optimizer.apply_gradients(zip(grads, variables))

    f = tj.function(step) if traced else step
    for grads in gradients:
        f(*[tj.cast(g, dtype) for g in grads])
    assert not traced or f.experimental_get_tracing_count() == 1
    return [np.asarray(v.numpy(), np.result_type(np.float64, weights[0])) for v in variables]


def expected(rule, options, weights, gradients):
    out = []
    for i, w in enumerate(weights):
        state = {}
        for t, grads in enumerate(gradients, 1):
            w = rule(w, grads[i], state, t, **options)
        out.append(w)
    return out


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_rules(name, traced):
    make, rule, options = RULES[name]
    weights, gradients = problem()
    optimizer = make()
    found = after_steps(optimizer, weights, gradients, traced)
    for a, b in zip(found, expected(rule, options, weights, gradients), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)
    assert int(optimizer.iterations) == STEPS


# how far w may be off after 20 steps: the Variable is rounded after each of them
PLACES = {"float16": 0.04, "bfloat16": 0.4, "float64": 2e-6}


@pytest.mark.parametrize("dtype", PLACES)
@pytest.mark.parametrize("name", RULES)
def test_other_types(name, dtype):
    make, rule, options = RULES[name]
    weights, gradients = problem(dtype)
    optimizer = make()
    found = after_steps(optimizer, weights, gradients, True, dtype)
    want = expected(rule, options, weights, [[np.asarray(tj.cast(g, dtype), np.float64) for g in s] for s in gradients])
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=PLACES[dtype], atol=PLACES[dtype])
    kept = {v.dtype.name for v in optimizer.variables[2:] if v.ndim}
    assert kept <= {"float64" if dtype == "float64" else "float32"}


@pytest.mark.parametrize("name", [n for n in RULES if n != "Ftrl"])
def test_complex(name):
    """Second moments are those of the size of complex gradients."""
    make, rule, options = RULES[name]
    weights, gradients = problem("complex128")
    for traced in (False, True):
        found = after_steps(make(), weights, gradients, traced, "complex128")
        for a, b in zip(found, expected(rule, options, weights, gradients), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_ftrl_is_for_real_variables():
    v = tj.Variable(tj.complex(1.0, 1.0))
    with pytest.raises(ArgumentError, match="real Variables"):
        O.Ftrl().apply([tj.complex(1.0, 1.0)], [v])


# --- IndexedSlices ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    "name, options",
    [(n, {}) for n in RULES]
    + [("SGD", {k: 0.3}) for k in ("clipnorm", "clipvalue", "global_clipnorm", "weight_decay")],
)
def test_rows_mean_what_the_whole_gradient_means(name, options, traced):
    make = RULES[name][0]
    rng = np.random.default_rng(1)
    start = rng.standard_normal((6, 2))

    def run(dense):
        v, optimizer = tj.Variable(start, dtype=tj.float32), make(**options)

        def step(rows, i):
            g = tj.IndexedSlices(rows, i, (6, 2))
            optimizer.apply_gradients([(tj.convert_to_tensor(g) if dense else g, v)])

        f = tj.function(step) if traced else step
        for k in range(6):
            rows = np.random.default_rng(k).standard_normal((3, 2)).astype(np.float32)
            f(tj.constant(rows), tj.constant([k % 3, 4, k % 3]))
        return v.numpy()

    np.testing.assert_allclose(run(False), run(True), rtol=1e-5, atol=1e-6)


def test_gradient_descent_makes_no_dense_gradient_of_rows():
    table, optimizer = tj.Variable(tj.ones((1000, 4))), O.SGD(0.5)

    @tj.function
    def step(i):
        with tj.GradientTape() as tape:
            loss = tj.reduce_sum(tj.gather(table, i))
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    i = tj.constant([3, 3, 7])
    step(i)
    assert "scatter_sum" not in str(step.graph(i))
    assert table.numpy()[[3, 7, 8], 0].tolist() == [0.0, 0.5, 1.0]


# --- options of all ---------------------------------------------------------------------------------------------------
def test_weight_decay():
    a, b, c = (tj.Variable([1.0, 2.0], name=n) for n in ("kernel", "bias", "other"))
    optimizer = O.SGD(0.5, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_list=[c], var_names=["bias"])
    optimizer.apply([tj.constant([1.0, 1.0])] * 3, [a, b, c])
    np.testing.assert_allclose(a.numpy(), [0.95 - 0.5, 1.9 - 0.5], rtol=1e-6)
    np.testing.assert_allclose([b.numpy(), c.numpy()], [[0.5, 1.5]] * 2, rtol=1e-6)

    w = tj.Variable(1.0)
    step = tj.function(lambda: optimizer.apply([tj.constant(0.0)], [w]))
    step()
    optimizer.exclude_from_weight_decay(var_list=[w])
    step()
    assert float(w) == pytest.approx(0.95)
    assert O.AdamW().weight_decay == 0.004
    with pytest.raises(ArgumentError):
        O.AdamW(weight_decay=None)


@pytest.mark.parametrize(
    "options, want",
    [
        ({"clipnorm": 1.0}, [[-0.6, -0.8], [-1.0]]),
        ({"clipvalue": 3.5}, [[-3.0, -3.5], [-3.5]]),
        ({"global_clipnorm": 1.0}, [[-3 / 13, -4 / 13], [-12 / 13]]),
        ({"loss_scale_factor": 2.0}, [[-1.5, -2.0], [-6.0]]),
    ],
)
def test_gradients_are_clipped_and_unscaled(options, want):
    a, b = tj.Variable([0.0, 0.0]), tj.Variable([0.0])
    optimizer = O.SGD(1.0, **options)
    optimizer.apply([tj.constant([3.0, 4.0]), tj.constant([12.0])], [a, b])
    np.testing.assert_allclose(a.numpy(), want[0], rtol=1e-6)
    np.testing.assert_allclose(b.numpy(), want[1], rtol=1e-6)
    assert float(optimizer.scale_loss(tj.constant(3.0))) == 3.0 * options.get("loss_scale_factor", 1.0)


def test_averages_take_the_place_of_values():
    v, optimizer = tj.Variable(0.0), O.SGD(1.0, use_ema=True, ema_momentum=0.5)
    step = tj.function(lambda: optimizer.apply([tj.constant(-1.0)], [v]))
    average = None
    for k in range(1, 5):
        step()
        average = float(k) if average is None else 0.5 * average + 0.5 * k
        assert float(v) == k
    optimizer.finalize_variable_values([v])
    assert float(v) == average
    w = tj.Variable(0.0)
    often = O.SGD(1.0, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2)
    seen = []
    for _ in range(4):
        often.apply([tj.constant(-1.0)], [w])
        seen.append(float(w))
    assert seen == [1.0, 1.5, 2.5, 2.75]  # of the averages 1, 1.5, 2, 2.75 the second and the fourth


def test_missing_gradients_are_left_out_with_one_warning():
    a, b, optimizer = tj.Variable(1.0, name="a"), tj.Variable(1.0, name="b"), O.SGD(0.5)
    with pytest.warns(RuntimeWarning, match="no gradients for b:0"):
        optimizer.apply_gradients([(tj.constant(1.0), a), (None, b)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.apply_gradients([(tj.constant(1.0), a), (None, b)])
    assert (float(a), float(b), int(optimizer.iterations)) == (0.0, 1.0, 2)
    with pytest.raises(GradientError, match=r"tape\.why"):
        optimizer.apply([None], [a])


def test_errors():
    v, optimizer = tj.Variable([1.0, 2.0]), O.SGD()
    with pytest.raises(ShapeError, match="gradient f32"):
        optimizer.apply([tj.ones((3,))], [v])
    with pytest.raises(ArgumentError, match="2 gradients for 1"):
        optimizer.apply([tj.ones((2,))] * 2, [v])
    with pytest.raises(ArgumentError, match="changes Variables"):
        optimizer.apply([tj.ones((2,))], [tj.ones((2,))])
    with pytest.raises(ArgumentError, match="build"):
        O.SGD().apply([tj.ones((2,))])
    for wrong in ({"clipnorm": 1.0, "clipvalue": 1.0}, {"clipnorm": -1.0}, {"ema_momentum": 2.0}, {"momentum": 1.5},
                  {"ema_overwrite_frequency": 0}):  # fmt: skip
        with pytest.raises(ArgumentError):
            O.SGD(**wrong)
    with pytest.raises(ArgumentError):
        O.Lion(beta_1=0.0)
    with pytest.raises(TypeError):
        O.Adam(beta_3=0.5)
    with pytest.raises((ShapeError, ArgumentError, DTypeError)):
        optimizer.learning_rate = [1.0, 2.0]
    with pytest.raises(ArgumentError, match="learning rate is a number"):
        O.SGD("fast")


@pytest.mark.parametrize("name", ["SGD", "Adam", "Lion"])
def test_errors_name_the_class_of_the_optimizer(name):
    v, kind = tj.Variable([1.0, 2.0]), getattr(O, name)
    for made in (kind(0.1), type("Own", (kind,), {})(0.1)):
        with pytest.raises(ShapeError, match=rf"^{name}\.apply_gradients\("):
            made.apply_gradients([(tj.ones((3,)), v)])


# --- state ------------------------------------------------------------------------------------------------------------
def test_a_changed_rate_is_not_traced_anew():
    v, optimizer = tj.Variable(0.0), O.SGD(1.0)
    step = tj.function(lambda: optimizer.apply([tj.constant(-1.0)], [v]))
    step()
    optimizer.learning_rate = 0.5
    step()
    optimizer.learning_rate.assign(0.25)
    step()
    assert float(v) == 1.75
    assert step.experimental_get_tracing_count() == 1

    @tj.function
    def slower(factor):
        optimizer.learning_rate = optimizer.learning_rate * factor
        optimizer.apply([tj.constant(-1.0)], [v])

    slower(tj.constant(0.5))
    assert (float(v), float(optimizer.learning_rate)) == (1.875, 0.125)


def test_other_settings_and_schedules_are_heard():
    v, optimizer = tj.Variable(0.0), O.SGD(1.0)
    step = tj.function(lambda: optimizer.apply([tj.constant(-4.0)], [v]))
    for _ in range(2):
        step()
    optimizer.clipvalue = 1.0
    for _ in range(2):
        step()
    assert float(v) == 10.0
    optimizer.learning_rate = O.schedules.PiecewiseConstantDecay([4], [2.0, 0.0])
    for _ in range(2):
        step()
    assert float(v) == 12.0
    optimizer.learning_rate = 0.5
    step()
    assert float(v) == 12.5
    assert step.experimental_get_tracing_count() == 4


def test_rates_from_variables_callables_and_schedules():
    rate, v = tj.Variable(0.5), tj.Variable(0.0)
    optimizer = O.SGD(rate)
    assert optimizer.learning_rate is rate
    optimizer.learning_rate = 0.25
    assert float(rate) == 0.25
    optimizer.learning_rate = 0.5
    called = O.SGD(lambda: rate * 2.0)
    scheduled = O.SGD(O.schedules.InverseTimeDecay(1.0, 1, 1.0))
    for o in (optimizer, called, scheduled, scheduled):
        o.apply([tj.constant(-1.0)], [v])
    assert float(v) == 0.5 + 1.0 + 1.0 + 0.5
    assert float(scheduled.learning_rate) == pytest.approx(1 / 3)


@pytest.mark.parametrize("traced", [False, True])
def test_state_goes_on_where_it_was(traced):
    weights, gradients = problem()

    def stepper(optimizer, variables):
        def step(*grads):
            optimizer.apply_gradients(zip(grads, variables))

        return tj.function(step) if traced else step

    first, a = O.Adam(0.05, amsgrad=True, use_ema=True), [tj.Variable(w) for w in weights]
    one = stepper(first, a)
    for grads in gradients[:5]:
        one(*grads)
    state = first.get_state()
    assert {"iterations", "learning_rate", "0/momentum", "1/velocity_hat", "1/average"} <= state.keys()
    second, b = O.Adam(0.01, amsgrad=True, use_ema=True), [tj.Variable(v.numpy()) for v in a]
    with pytest.raises(ArgumentError, match="build"):
        second.set_state(state)
    second.build(b)
    second.set_state(state)
    other = stepper(second, b)
    for grads in gradients[5:]:
        one(*grads)
        other(*grads)
    for v, w in zip(a, b, strict=True):
        np.testing.assert_array_equal(v.numpy(), w.numpy())
    with pytest.raises(ShapeError):
        second.set_state(state | {"0/momentum": np.zeros(7)})


def test_the_first_step_makes_the_model_and_the_slots():
    def run(wrap):
        optimizer, made = O.Adam(0.1), {}

        @wrap
        def step(x):
            if not made:
                made["w"] = tj.Variable(tj.ones((3, 1)) * 0.5)
            with tj.GradientTape() as tape:
                loss = tj.reduce_sum(tj.square(x @ made["w"] - 1.0))
            optimizer.minimize(loss, [made["w"]], tape=tape)
            return loss

        losses = [float(step(tj.constant([[1.0, 2.0, 3.0]]))) for _ in range(5)]
        return losses, made["w"].numpy(), int(optimizer.iterations), len(optimizer.variables)

    a, b = run(tj.function), run(lambda f: f)
    np.testing.assert_allclose(a[0], b[0], rtol=1e-5)
    np.testing.assert_allclose(a[1], b[1], rtol=1e-5)
    assert a[2:] == b[2:] == (5, 4)


def test_state_ends_with_its_variable():
    optimizer = O.Adam()
    v = tj.Variable(1.0)
    optimizer.apply([tj.constant(1.0)], [v])
    assert len(optimizer.variables) == 4
    del v
    assert len(optimizer.variables) == 2


@pytest.mark.parametrize("traced", [False, True])
def test_minimize(traced):
    v, w, optimizer = tj.Variable(5.0), tj.Variable(2.0, trainable=False), O.SGD(0.25)

    def step():
        return optimizer.minimize(lambda: tj.square(v - 1.0) + tj.square(w), [v, w])

    f = tj.function(step) if traced else step
    for _ in range(3):
        f()
    assert (float(v), float(w)) == (1.5, 0.25)
    with pytest.raises(ArgumentError, match="tape"):
        optimizer.minimize(tj.constant(1.0), [v])


def test_adam_is_part_of_the_loops_that_make_the_gradients():
    params = [tj.Variable(tj.ones(s) * 0.1) for s in ((8, 16), (16,), (16, 4), (4,))]
    optimizer = O.Adam()

    @tj.function
    def step(x):
        with tj.GradientTape() as tape:
            loss = tj.reduce_sum(tj.square(tj.nn.relu(x @ params[0] + params[1]) @ params[2] + params[3]))
        optimizer.apply_gradients(zip(tape.gradient(loss, params), params))
        return loss

    x = tj.ones((32, 8))
    step(x)
    text = step.explain(x)
    kernels = text.split("kernels:")[1].split("plan for")[0].splitlines()
    updates = [line for line in kernels if "square+sub+mul+add+mul+sqrt" in line]
    assert len(updates) == 4
    assert sum("matmul+" in line for line in updates) == 2
    assert text.count("updated in place") >= 12


def test_an_optimizer_of_ones_own():
    class Signs(O.Optimizer):
        def __init__(self, rate, floor):
            super().__init__(rate)
            self.floor = floor

        def slots(self):
            return {"count": 0.0}

        def update_step(self, gradient, variable, learning_rate):
            size = tj.reduce_max(tj.abs(gradient))
            if size > self.floor:
                self.assign(variable, variable - learning_rate * tj.sign(gradient))
                self.slot(variable, "count").assign_add(tj.ones_like(gradient))

    def run(wrap):
        v, optimizer = tj.Variable([1.0, 1.0]), Signs(0.5, 1.0)
        step = wrap(lambda g: optimizer.apply([g], [v]))
        step(tj.constant([2.0, -2.0]))
        step(tj.constant([0.5, 0.5]))
        return v.numpy().tolist(), optimizer.slot(v, "count").numpy().tolist()

    assert run(tj.function) == run(lambda f: f) == ([0.5, 1.5], [1.0, 1.0])
