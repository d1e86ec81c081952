"""A Variable that a tensor chooses is that Variable: what is assigned to it, read from it and differentiated."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning

XS = [np.float32(2.0), np.float32(-1.0), np.float32(3.0)]


def _both(twins, make):
    """A scene with two Variables, which is compiled."""

    @twins
    def scene(wrap):
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConversionWarning)
            a, b = tj.Variable(1.0), tj.Variable(2.0)
            f = wrap(make(a, b))
            return [[f(tj.constant(x)), a.numpy(), b.numpy()] for x in XS]


def test_in_an_expression(twins):
    def make(a, b):
        def f(x):
            v = a if x > 0 else b
            v.assign_add(x)
            return v * 1.0

        return f

    _both(twins, make)


def test_in_branches(twins):
    def make(a, b):
        def f(x):
            if x > 0:
                v = a
                x = x + 1.0
            else:
                v = b
            v.assign(v * x)
            v.assign_sub(0.5)
            return v + a

        return f

    _both(twins, make)


def test_read_after_the_one_that_it_may_be_is_assigned(twins):
    def make(a, b):
        def f(x):
            v = a if x > 0 else b
            a.assign_add(10.0)
            y = v * 2.0
            b.assign(x)
            return y + v

        return f

    _both(twins, make)


def test_in_a_loop(twins):
    def make(a, b):
        def f(x):
            v = a
            total = x * 0.0
            for i in tj.range(4):
                a.assign_add(1.0)
                total = total + v
                if i % 2 == 0:
                    v = b
                else:
                    v = a
                v.assign_sub(x)
            return total + v

        return f

    _both(twins, make)


def test_of_objects(twins):
    class Model:
        def __init__(self, w):
            self.w = w

    def make(a, b):
        one, two = Model(a), Model(b)

        def f(x):
            (one if x > 0 else two).w.assign_add(x)
            m = two if x > 2 else one
            m.w.assign(m.w * 2.0)
            return m.w + 1.0

        return f

    _both(twins, make)


def test_as_conditions(twins):
    def make(a, b):
        def f(x):
            v = a if x > 0 else b
            if v:
                v.assign(x - 2.0)
            elif not v:
                b.assign_sub(1.0)
            while v and b > 3.0:
                b.assign_sub(1.0)
            return x if v or b > 10.0 else x + 1.0

        return f

    _both(twins, make)


def test_perhaps_none(twins):
    def make(a, b):
        def f(x):
            v = a if x > 0 else None
            if v is not None:
                v.assign_add(x)
            return a + b

        return f

    _both(twins, make)


def test_in_a_helper_and_in_the_result(twins):
    def make(a, b):
        def helper(v, x):
            v.assign_add(x)
            return v

        def f(x):
            return helper(b if x > 0 else a, x)

        return f

    _both(twins, make)


def test_gradients(twins):
    def make(a, b):
        def f(x):
            v = a if x > 0 else b
            with tj.GradientTape() as t:
                y = v * v * x + a
            g = t.gradient(y, [a, b])
            v.assign_sub(0.1 * (v * 2.0))
            return g[0], tj.constant(0.0) if g[1] is None else g[1], v + 0.0

        return f

    _both(twins, make)


def test_gradients_that_listen_outside(twins):
    @twins
    def scene(wrap):
        a, b = tj.Variable(1.0), tj.Variable(2.0)

        @wrap
        def f(x):
            v = a if x > 0 else b
            v.assign(v * 3.0)
            return v * v

        out = []
        for x in XS:
            with tj.GradientTape() as t:
                t.watch([a, b])
                y = f(tj.constant(x)) * a
            out.append([y, t.gradient(y, a)])
        return [*out, a, b]


def test_an_item(twins):
    @twins
    def scene(wrap):
        vs = [tj.Variable([float(i), 1.0]) for i in range(3)]

        @wrap
        def f(i):
            vs[i].assign_add([1.0, 2.0])
            w = vs[i]
            vs[0].assign(vs[0] * 2.0)
            return w * 1.0

        @wrap
        def read_only(i):
            return vs[i] + 1.0

        return [[f(tj.constant(i)), read_only(tj.constant(i)), [v.numpy() for v in vs]] for i in (0, 2, 1, 0)]


def test_each_of_a_list_in_a_loop(twins):
    @twins
    def scene(wrap):
        vs = [tj.Variable(float(i)) for i in range(3)]

        @wrap
        def f(x):
            for i in tj.range(3):
                vs[i].assign_add(x)
                vs[(i + 1) % 3].assign(vs[i] * 2.0)
            return vs[0] + vs[1]

        return [[f(tj.constant(x)), [v.numpy() for v in vs]] for x in XS]


@pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")
def test_a_part_of_one_and_several_shapes(twins):
    @twins
    def scene(wrap):
        a, b = tj.Variable([1.0, 2.0]), tj.Variable([[3.0]])

        @wrap
        def f(x):
            v = a if x > 0 else b
            v.assign_add(v * x)
            (b if x > 2 else v)[0].assign(x)
            return tj.reduce_sum(v)

        return [[f(tj.constant(x)), a.numpy(), b.numpy()] for x in XS]


@pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")
def test_more_than_can_be_told_apart(twins):
    @twins
    def scene(wrap):
        vs = [tj.Variable(float(i)) for i in range(20)]

        @wrap
        def f(i):
            vs[i].assign_add(1.0)
            return vs[i] * 1.0

        return [[f(tj.constant(i)) for i in (0, 19, 3)], [v.numpy() for v in vs]]


@pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")
def test_an_optimizer_step_for_the_one(twins):
    @twins
    def scene(wrap):
        a, b = tj.Variable(1.0), tj.Variable(2.0)
        sgd = tj.optimizers.SGD(0.1)

        @wrap
        def f(x):
            v = a if x > 0 else b
            with tj.GradientTape() as t:
                    y = v * v * x
            sgd.apply_gradients([(t.gradient(y, v), v)])
            return y

        return [[f(tj.constant(x)), a.numpy(), b.numpy()] for x in XS]


def test_which_one_it_is(twins):
    @twins
    def scene(wrap):
        a, b = tj.Variable(1.0, trainable=False), tj.Variable(2.0)

        @wrap
        def f(x):
            v = a if x > 0 else b
            y = x + 1.0 if v is a else x - 1.0
            if isinstance(v, tj.Variable):
                y = y * 2.0
            return y if v.trainable else y + 100.0

        return [f(tj.constant(x)) for x in XS]


def test_that_is_only_read_stays_one_tensor():
    a, b = tj.Variable(np.ones((4, 4), np.float32)), tj.Variable(np.zeros((4, 4), np.float32))

    @tj.function
    def f(x):
        w = a if tj.reduce_sum(x) > 0 else b
        return x @ w @ w

    x = tj.constant(np.ones((2, 4), np.float32))
    np.testing.assert_allclose(f(x).numpy(), 16.0)
    assert sum(n.op.name == "matmul" for n in f.get_concrete_function(x).graph.nodes) == 2
