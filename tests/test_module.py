"""Modules: what their attributes hold, in which order, and in traced functions."""

import collections
import gc
import weakref

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError

X = np.array([[1.0, -2.0, 3.0]], np.float32)


class Dense(tj.Module):
    def __init__(self, units, name=None):
        super().__init__(name=name)
        self.units, self.w = units, None

    def __call__(self, x):
        if self.w is None:
            self.w = tj.Variable(tj.ones((x.shape[-1], self.units)) * 0.5, name="w")
            self.b = tj.Variable(tj.zeros((self.units,)), name="b")
        return x @ self.w + self.b


class Stack(tj.Module):
    def __init__(self, sizes):
        super().__init__()
        self.layers = [Dense(n) for n in sizes]
        self.scale = tj.Variable(1.0, trainable=False, name="scale")

    @tj.Module.with_name_scope
    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x * self.scale


def test_names():
    class HTTPServerV2Layer(tj.Module):
        pass

    assert [m.name for m in (Dense(1), HTTPServerV2Layer(), Dense(1, "x"))] == ["dense", "http_server_v2_layer", "x"]
    with Dense(1, "first").name_scope as scope:
        assert scope == "first/"
    with pytest.raises(ArgumentError, match="identifier"):
        Dense(1, "no name")


def test_a_class_that_does_not_call_init():
    class Bare(tj.Module):
        def __init__(self):
            self.v = tj.Variable(1.0)

    assert Bare().name == "bare"
    assert len(Bare().variables) == 1


def test_what_is_found_and_in_which_order():
    def variable(name, trainable=True):
        return tj.Variable(1.0, name=name, trainable=trainable)

    class Pair(tj.Module):
        def __init__(self, name):
            super().__init__()
            self.one = variable(name)

    class Whole(tj.Module):
        def __init__(self):
            super().__init__()
            self.layer10, self.layer2 = Pair("ten"), Pair("two")
            self.z = variable("z")
            self.a = {"y": [variable("y")], "x": (variable("x", trainable=False), Pair("inside"))}
            self.again, self.itself = self.z, self
            self.more = collections.OrderedDict([(1, variable("m1")), ("k", variable("mk"))])
            self.number, self.text, self.array = 3, "text", np.ones(3)
            self.loop = [self.a]
            self.loop.append(self.loop)

    m = Whole()
    names = [v.name.removesuffix(":0") for v in m.variables]
    assert names == ["x", "y", "z", "m1", "mk", "inside", "two", "ten"]  # those of Modules within come last
    assert [v.name for v in m.non_trainable_variables] == ["x:0"]
    assert len(m.trainable_variables) == 7
    assert m.submodules == (m.a["x"][1], m.layer2, m.layer10)


def test_weights_that_the_first_call_makes():
    for wrap in (tj.function, lambda f: f):
        m = Stack([2, 1])
        assert [v.name for v in m.variables] == ["scale:0"]
        f = wrap(m.__call__)
        assert f(X).numpy().tolist() == f(X).numpy().tolist() == [[1.0]]
        assert [v.name for v in m.trainable_variables] == ["b:0", "w:0", "b:0", "w:0"]
        assert [v.shape for v in m.trainable_variables] == [(2,), (3, 2), (1,), (2, 1)]


@pytest.mark.parametrize("traced", [False, True])
def test_training(traced):
    m, optimizer = Stack([4, 1]), tj.optimizers.Adam(0.05)

    def step(x):
        with tj.GradientTape() as tape:
            loss = tj.reduce_mean(tj.square(m(x) - 3.0))
        variables = m.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return loss

    f = tj.function(step) if traced else step
    losses = [float(f(tj.constant(X))) for _ in range(60)]
    assert losses[-1] < 1e-3 < losses[0]
    assert not traced or f.experimental_get_tracing_count() == 2
    assert len(optimizer.variables) == 2 + 2 * 4


def test_a_trace_knows_which_variables_there_are():
    m = Stack([2])
    m(X)

    @tj.function
    def norm():
        return tj.add_n([tj.reduce_sum(tj.square(v)) for v in m.variables])

    assert [float(norm()) for _ in range(2)] == [2.5, 2.5]
    m.number = 3  # no Variable, but another attribute
    m.more = tj.Variable(2.0)
    assert [float(norm()) for _ in range(2)] == [6.5, 6.5]
    m.more = tj.Variable(3.0)
    assert float(norm()) == 11.5
    m.layers.append(Dense(1))
    m.layers[1](tj.ones((1, 2)))
    assert [float(norm()) for _ in range(2)] == [12.0, 12.0]
    del m.more
    assert float(norm()) == 3.0
    m.losses = [0.5]
    norm()
    count = norm.experimental_get_tracing_count()
    m.number = 4
    m.losses.append(0.25)
    m.scale.assign(2.0)
    assert [float(norm()) for _ in range(3)] == [6.0] * 3
    assert norm.experimental_get_tracing_count() == count


def test_modules_share_a_step_and_are_collected():
    @tj.function
    def step(m, x):
        return m(x), [v * 1.0 for v in m.variables]

    modules = [Stack([1]), Stack([2])]
    for _ in range(3):
        assert [step(m, X)[0].shape for m in modules] == [(1, 1), (1, 2)]
    refs = [weakref.ref(m) for m in modules]
    del modules
    gc.collect()
    assert [r() for r in refs] == [None, None]
