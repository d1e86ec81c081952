"""Listings from introductions to TensorFlow run as written, with the results that the texts print."""

import re

import numpy as np
import pytest

import tracejit as tf


# --- constants, random tensors, Variables -----------------------------------------------------------------------------
def test_tensors_of_ones_and_zeros(capsys):
    x = tf.ones(shape=(2, 1))
    print(x)
    x = tf.zeros(shape=(2, 1))
    print(x)
    assert capsys.readouterr().out == (
        "tj.Tensor([[1.]\n [1.]], shape=(2, 1), dtype=float32)\ntj.Tensor([[0.]\n [0.]], shape=(2, 1), dtype=float32)\n"
    )


def test_random_tensors(capsys):
    x = tf.random.normal(shape=(3, 1), mean=0.0, stddev=1.0)
    print(x)
    assert x.shape == (3, 1)
    assert x.dtype == tf.float32
    x = tf.random.uniform(shape=(3, 1), minval=0.0, maxval=1.0)
    print(x)
    assert np.all((x.numpy() >= 0) & (x.numpy() < 1))
    assert len(re.findall(r"shape=\(3, 1\), dtype=float32\)", capsys.readouterr().out)) == 2


def test_random_tensors_have_the_moments_asked_for():
    x = tf.random.normal(shape=(100_000,), mean=3.0, stddev=2.0).numpy()
    assert x.mean() == pytest.approx(3.0, abs=0.05)
    assert x.std() == pytest.approx(2.0, abs=0.05)
    u = tf.random.uniform(shape=(100_000,), minval=-1.0, maxval=3.0).numpy()
    assert u.mean() == pytest.approx(1.0, abs=0.05)
    assert u.min() >= -1.0
    assert u.max() < 3.0


def test_arrays_can_be_assigned_to_but_tensors_cannot():
    x = np.ones(shape=(2, 2))
    x[0, 0] = 0.0

    x = tf.ones(shape=(2, 2))
    with pytest.raises(TypeError, match="does not support item assignment"):
        x[0, 0] = 0.0
    with pytest.raises(TypeError, match="Variable"):
        x[0, 0] = 0.0
    assert np.array_equal(x.numpy(), np.ones((2, 2)))


def test_assigning_to_a_variable():
    v = tf.Variable(initial_value=tf.random.normal(shape=(3, 1)))
    assert "shape=(3, 1)" in repr(v)
    v.assign(tf.ones((3, 1)))
    assert v.numpy().tolist() == [[1.0], [1.0], [1.0]]
    v[0, 0].assign(3.0)
    assert v.numpy().tolist() == [[3.0], [1.0], [1.0]]
    v.assign_add(tf.ones((3, 1)))
    assert v.numpy().tolist() == [[4.0], [2.0], [2.0]]
    v.assign_sub(tf.ones((3, 1)))
    assert v.numpy().tolist() == [[3.0], [1.0], [1.0]]


@pytest.mark.parametrize("wrapper", [lambda f: f, tf.function], ids=["eager", "traced"])
def test_assigning_to_a_variable_inside_a_function(wrapper):
    v = tf.Variable(tf.zeros((3, 1)))

    @wrapper
    def change():
        v.assign(tf.ones((3, 1)))
        v[0, 0].assign(3.0)
        v.assign_add(tf.ones((3, 1)))
        return v + 0.0

    assert change().numpy().tolist() == [[4.0], [2.0], [2.0]]
    assert v.numpy().tolist() == [[4.0], [2.0], [2.0]]


# --- tensor operations ------------------------------------------------------------------------------------------------
def arithmetic():
    a = tf.ones((2, 2))
    b = tf.square(a)
    c = tf.sqrt(a)
    d = b + c
    e = tf.matmul(a, b)
    e *= d
    return b, c, d, e


@pytest.mark.parametrize("f", [arithmetic, tf.function(arithmetic)], ids=["eager", "traced"])
def test_arithmetic(f):
    b, c, d, e = f()
    for tensor, value in ((b, 1.0), (c, 1.0), (d, 2.0), (e, 4.0)):
        assert tensor.numpy().tolist() == [[value] * 2] * 2


def test_adding_constants(capsys):
    a = tf.constant([1, 2, 3])
    b = tf.constant([0, 0, 1])
    c = tf.add(a, b)
    print(c)
    assert capsys.readouterr().out == "tj.Tensor([1 2 4], shape=(3,), dtype=int32)\n"


def test_scalars_vectors_and_matrices():
    a = tf.constant(2, name="a")
    b = tf.constant(3, name="b")
    assert int(tf.add(a, b)) == 5
    assert int(tf.multiply(a, b)) == 6
    assert (tf.constant([1, 2, 3]) + tf.constant([4, 5, 6])).numpy().tolist() == [5, 7, 9]
    a = tf.constant([[1, 2], [3, 4]])
    b = tf.constant([[1], [2]])
    c = tf.matmul(a, b)
    assert (a.shape, b.shape, c.shape) == ((2, 2), (2, 1), (2, 1))
    assert c.numpy().tolist() == [[5], [11]]


# --- @function --------------------------------------------------------------------------------------------------------
def compute(a, b, c):
    d = a * b + c
    e = a * b * c
    return d, e


def test_compute_traced_equals_eager():
    args = [tf.random.normal((1000,)) for _ in range(3)]
    for eager, traced in zip(compute(*args), tf.function(compute)(*args)):
        np.testing.assert_allclose(traced.numpy(), eager.numpy(), rtol=1e-6, atol=1e-6)


def test_compute_multiplies_a_and_b_once():
    args = [tf.constant([1.0, 2.0]), tf.constant([3.0, 4.0]), tf.constant([5.0, 6.0])]
    d, e = tf.function(compute)(*args)
    assert d.numpy().tolist() == [8.0, 14.0]
    assert e.numpy().tolist() == [15.0, 48.0]
    text = str(tf.function(compute).graph(*args, stage="optimized"))
    assert len(re.findall(r"= mul\b", text)) == 2, text
    assert len(re.findall(r"= add\b", text)) == 1, text


# --- gradients --------------------------------------------------------------------------------------------------------
def test_gradient_of_a_variable():
    input_var = tf.Variable(initial_value=3.0)
    with tf.GradientTape() as tape:
        result = tf.square(input_var)
    gradient = tape.gradient(result, input_var)
    assert float(gradient) == 6.0


def test_gradient_of_a_watched_constant():
    input_const = tf.constant(3.0)
    with tf.GradientTape() as tape:
        tape.watch(input_const)
        result = tf.square(input_const)
    gradient = tape.gradient(result, input_const)
    assert float(gradient) == 6.0


def test_a_constant_is_not_watched_unasked():
    input_const = tf.constant(3.0)
    with tf.GradientTape() as tape:
        result = tf.square(input_const)
    assert tape.gradient(result, input_const) is None


def falling_apple(time):
    with tf.GradientTape() as outer_tape:
        with tf.GradientTape() as inner_tape:
            position = 4.9 * time**2
        speed = inner_tape.gradient(position, time)
    acceleration = outer_tape.gradient(speed, time)
    return speed, acceleration


@pytest.mark.parametrize("f", [falling_apple, tf.function(falling_apple)], ids=["eager", "traced"])
@pytest.mark.parametrize("seconds", [0.0, 1.5])
def test_falling_apple(f, seconds):
    speed, acceleration = f(tf.Variable(seconds))
    assert float(speed) == pytest.approx(9.8 * seconds, rel=1e-6)
    assert float(acceleration) == pytest.approx(9.8, rel=1e-6)


def test_loss_of_a_linear_equation(capsys):
    A, B = tf.constant(3.0), tf.constant(6.0)
    X = tf.Variable(20.0)
    loss = tf.math.abs(A * X - B)
    print(loss)
    assert capsys.readouterr().out == "tj.Tensor(54.0, shape=(), dtype=float32)\n"


SOLUTION = """\
X = 20.00, dX = 3.000000
X = 17.00, dX = 3.000000
X = 14.00, dX = 3.000000
X = 11.00, dX = 3.000000
X = 8.00, dX = 3.000000
X = 5.00, dX = 3.000000
X = 2.00, dX = 0.000000
"""


def test_solving_a_linear_equation(capsys):
    A, B = tf.constant(3.0), tf.constant(6.0)
    X = tf.Variable(20.0)

    def train_step():
        with tf.GradientTape() as tape:
            loss = tf.math.abs(A * X - B)
        dX = tape.gradient(loss, X)
        print("X = {:.2f}, dX = {:2f}".format(X.numpy(), dX))  # noqa: UP032
        X.assign(X - dX)

    for _ in range(7):
        train_step()
    assert capsys.readouterr().out == SOLUTION


def test_solving_a_linear_equation_traced(capsys):
    A, B = tf.constant(3.0), tf.constant(6.0)
    X = tf.Variable(20.0)

    @tf.function
    def train_step():
        with tf.GradientTape() as tape:
            loss = tf.math.abs(A * X - B)
        dX = tape.gradient(loss, X)
        before = X + 0.0
        X.assign(X - dX)
        return before, dX

    for _ in range(7):
        before, dX = train_step()
        print(f"X = {before:.2f}, dX = {dX:2f}")
    assert capsys.readouterr().out == SOLUTION
    assert float(X) == 2.0


# --- the linear classifier, from the points to the line ---------------------------------------------------------------
@pytest.fixture
def clouds():
    num_samples_per_class = 1000
    rng = np.random.RandomState(1234)
    negative_samples = rng.multivariate_normal(mean=[0, 3], cov=[[1, 0.5], [0.5, 1]], size=num_samples_per_class)
    positive_samples = rng.multivariate_normal(mean=[3, 0], cov=[[1, 0.5], [0.5, 1]], size=num_samples_per_class)
    inputs = np.vstack((negative_samples, positive_samples)).astype(np.float32)
    targets = np.vstack(
        (np.zeros((num_samples_per_class, 1), dtype="float32"), np.ones((num_samples_per_class, 1), dtype="float32"))
    )
    return inputs, targets


def classifier(weights):
    output_dim = 1
    W = tf.Variable(initial_value=weights)
    b = tf.Variable(initial_value=tf.zeros(shape=(output_dim,)))

    def model(inputs):
        return tf.matmul(inputs, W) + b

    def square_loss(targets, predictions):
        per_sample_losses = tf.square(targets - predictions)
        return tf.reduce_mean(per_sample_losses)

    learning_rate = 0.1

    def training_step(inputs, targets):
        with tf.GradientTape() as tape:
            predictions = model(inputs)
            loss = square_loss(targets, predictions)
        grad_loss_wrt_W, grad_loss_wrt_b = tape.gradient(loss, [W, b])
        W.assign_sub(grad_loss_wrt_W * learning_rate)
        b.assign_sub(grad_loss_wrt_b * learning_rate)
        return loss

    return W, b, model, training_step


def numpy_training(inputs, targets, weights, steps):
    """The same training in float64 with the gradient written out."""
    x, t, w, b = inputs.astype(float), targets.astype(float), weights.astype(float), np.zeros(1)
    losses = []
    for _ in range(steps):
        error = x @ w + b - t
        losses.append(np.mean(error**2))
        w = w - 0.1 * 2 * x.T @ error / len(x)
        b = b - 0.1 * 2 * error.sum(0) / len(x)
    return np.array(losses), w, b


@pytest.mark.parametrize("wrapper", [lambda f: f, tf.function], ids=["eager", "traced"])
def test_linear_classifier(clouds, wrapper):
    inputs, targets = clouds
    weights = tf.random.uniform(shape=(2, 1)).numpy()
    W, b, model, training_step = classifier(weights)
    training_step = wrapper(training_step)
    losses, lines = [], []
    for step in range(40):
        loss = training_step(inputs, targets)
        losses.append(float(loss))
        lines.append(f"step {step}: loss {loss:.4f}")
    expected, w_expected, b_expected = numpy_training(inputs, targets, weights, 40)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_allclose(W.numpy(), w_expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(b.numpy(), b_expected, rtol=1e-3, atol=1e-4)
    assert lines[-1] == f"step 39: loss {losses[-1]:.4f}"
    assert losses[-1] < 0.04

    predictions = model(inputs)
    right = (predictions[:, 0] > 0.5).numpy() == (targets[:, 0] > 0.5)
    assert right.mean() > 0.99

    # the line at which the prediction is one half, written with Variables among NumPy arrays
    x = np.linspace(-1, 4, 1000)
    y = -W[0] / W[1] * x + (0.5 - b) / W[1]
    on_line = np.stack([x, np.asarray(y)], axis=1).astype(np.float32)
    np.testing.assert_allclose(model(on_line).numpy(), 0.5, atol=1e-4)
