"""What surprises users of tracers: captures that change, mutable objects, state. Each scene compares with Python."""

import functools
import gc
import weakref

import numpy as np

import tracejit as tj

X = np.array([1.0, -2.0, 3.0])
GAIN = 1.0


class Settings:
    scale = 1.0


# --- what a function reads from outside -------------------------------------------------------------------------------
def test_a_global_that_changes(twins):
    @twins
    def scene(wrap):
        global GAIN
        GAIN = 1.0
        f = wrap(lambda x: x * GAIN)
        out = [f(X)]
        for g in (10.0, 10.0, 3, True):
            GAIN = g
            out.append(f(X))
        return out


def test_a_global_read_by_a_helper(twins):
    def helper(x):
        return x + GAIN if GAIN > 0 else x - GAIN

    @twins
    def scene(wrap):
        global GAIN
        out, f = [], wrap(lambda x: helper(x) * 2.0)
        for g in (1.0, -1.0, 1.0, 5.0):
            GAIN = g
            out.append(f(X))
        return out


def test_a_helper_that_is_replaced(twins):
    @twins
    def scene(wrap):
        helpers = {"f": lambda x: x + 1.0}

        def call(x):
            return helpers["f"](x)

        f = wrap(call)
        out = [f(X)]
        helpers["f"] = lambda x: x * 5.0
        out.append(f(X))
        return out


def test_a_closure_that_changes(twins):
    @twins
    def scene(wrap):
        k, out = 1.0, []

        @wrap
        def f(x):
            return x * k

        for k in (1.0, 2.0, 7.0):
            out.append(f(X))
        return out


def test_late_binding_in_a_loop(twins):
    @twins
    def scene(wrap):
        fs = []
        for k in range(3):
            fs.append(wrap(lambda x: x * k))
        return [f(X) for f in fs]


def test_instance_and_class_attributes_that_change(twins):
    @twins
    def scene(wrap):
        Settings.scale = 1.0
        s, out = Settings(), []
        f = wrap(lambda x: x * s.scale)
        out.append(f(X))
        Settings.scale = 4.0
        out.append(f(X))
        s.scale = 9.0
        out.append(f(X))
        del s.scale
        out.append(f(X))
        return out


def test_items_of_captured_containers_that_change(twins):
    @twins
    def scene(wrap):
        config, out = {"gain": 1.0, "layers": [1.0, 2.0]}, []

        @wrap
        def f(x):
            for k in config["layers"]:
                x = x * k
            return x * config["gain"]

        out.append(f(X))
        config["gain"] = 3.0
        out.append(f(X))
        config["layers"].append(5.0)
        out.append(f(X))
        config["layers"][0] = -1.0
        out.append(f(X))
        return out


def test_a_captured_array_edited_in_place(twins):
    @twins
    def scene(wrap):
        small, large = np.ones(3), np.ones((50, 3))
        f = wrap(lambda x: x * small + tj.reduce_sum(large, 0))
        out = [f(X)]
        small[1] = 5.0
        large[:, 2] = -1.0
        out.append(f(X))
        return out


def test_a_captured_tensor_that_is_replaced(twins):
    @twins
    def scene(wrap):
        class Model:
            w = tj.constant([1.0, 2.0, 3.0])

        m = Model()
        f = wrap(lambda x: tj.cast(x, tj.float32) * m.w)
        out = [f(X)]
        m.w = tj.constant([0.0, 1.0, 0.0])
        out.append(f(X))
        m.w = tj.constant([[1.0], [2.0]])
        out.append(f(X))
        return out


def test_a_mode_that_changes_a_branch(twins):
    @twins
    def scene(wrap):
        class Layer:
            training = True

            @wrap
            def __call__(self, x):
                if self.training:
                    return x * 0.5
                return x

        layer = Layer()
        out = [layer(X)]
        layer.training = False
        out.append(layer(X))
        layer.training = True
        return [*out, layer(X)]


def test_the_reason_for_a_retrace_is_told():
    global GAIN
    GAIN = 1.0
    f = tj.function(lambda x: x * GAIN)
    f(X)
    GAIN = 20.0
    f(X)
    assert f.experimental_get_tracing_count() <= 2
    assert "GAIN" in f.explain(X)


# --- objects, methods, lambdas ----------------------------------------------------------------------------------------
def test_a_mutable_object_as_an_argument(twins):
    @twins
    def scene(wrap):
        s = Settings()
        s.scale, f, out = 2.0, wrap(lambda s, x: x * s.scale), []
        out.append(f(s, X))
        s.scale = 5.0
        out.append(f(s, X))
        return out


def test_methods_that_count(twins):
    @twins
    def scene(wrap):
        class Meter:
            def __init__(self):
                self.n, self.mean = 0, 0.0

            @wrap
            def update(self, x):
                self.n += 1
                self.mean = self.mean + (x - self.mean) / self.n
                return self.mean

        a, b = Meter(), Meter()
        return [a.update(2.0), a.update(4.0), b.update(10.0), a.update(9.0), a.n, b.n, a.mean]


def test_bound_methods_made_anew():
    class Model:
        def __init__(self):
            self.w = tj.Variable(2.0)

        def f(self, x):
            return tj.tanh(x * self.w) + 0.125

    m = Model()
    for f in [tj.function(m.f) for _ in range(3)]:
        np.testing.assert_allclose(f(X), np.tanh(X * 2) + 0.125)


def test_lambdas_made_anew(twins):
    @twins
    def scene(wrap):
        apply = wrap(lambda g, x: g(x) + 1.0)
        return [apply(lambda x: x * k, X) for k in (1.0, 2.0, 3.0)]


def test_two_lambdas_in_one_line(twins):
    @twins
    def scene(wrap):
        f, g = wrap(lambda x: x + 1.0 if x > 0 else x), wrap(lambda x: x * 2.0 if x > 0 else -x)
        return [h(tj.constant(k)) for h in (f, g) for k in (2.0, -2.0)]


def test_objects_are_collected():
    class Model:
        def __init__(self):
            self.w = tj.Variable(2.0)

        @tj.function
        def f(self, x):
            if x > 0:
                return self.w * x
            return x

    m = Model()
    m.f(tj.constant(1.0))
    refs = weakref.ref(m), weakref.ref(m.w)
    del m
    gc.collect()
    assert [r() for r in refs] == [None, None]


def test_decorators_between(twins):
    def twice(f):
        @functools.wraps(f)
        def call(x):
            return f(f(x))

        return call

    @twins
    def scene(wrap):
        @wrap
        @twice
        def f(x):
            if x > 1:
                return x * 0.5
            return x + 3.0

        return [f(tj.constant(k)) for k in (0.0, 1.5, 8.0)]


def test_properties_and_getattr(twins):
    class Lazy:
        def __init__(self):
            self.k = 2.0

        @property
        def double(self):
            return self.k * 2

        def __getattr__(self, name):
            if name == "missing":
                return 7.0
            raise AttributeError(name)

    @twins
    def scene(wrap):
        s, out = Lazy(), []
        f = wrap(lambda x: x * s.double + s.missing)
        out.append(f(X))
        s.k = 10.0
        out.append(f(X))
        return out
