"""Functions in decorators that hand on other arguments than they are given."""

import functools

import numpy as np
import pytest
from helpers import same

import tracejit as tj


def with_last(k):
    def decorate(f):
        @functools.wraps(f)
        def w(*a):
            y = f(*a, k)
            if tj.reduce_sum(y) > 0:
                return y
            return -y

        return w

    return decorate


def with_p(f):
    @functools.wraps(f)
    def w(*a, **named):
        named.setdefault("p", 5.0)
        return f(*a, **named)

    return w


def adding(f):
    @functools.wraps(f)
    def w(*a, **named):
        return f(*a, 4.0, **named)

    return w


def passing(f):
    @functools.wraps(f)
    def w(*a, **named):
        return f(*a, **named) * 2

    return w


class Callable_:
    def __init__(self, f):
        functools.update_wrapper(self, f)
        self.f = f

    def __call__(self, *a):
        return self.f(*a, 3.0)


X, Y = tj.constant([1.0, 2.0]), tj.constant([-4.0, 1.0])


def product(a, k):
    return a * k


def test_a_wrapper_may_give_arguments_of_its_own():
    f = with_last(3.0)(product)
    same(f, X)
    same(f, Y)
    same(lambda x: with_last(3.0)(product)(x), Y)
    same(Callable_(product), X)
    with pytest.raises(tj.errors.SignatureError, match="product"):
        tj.function(Callable_(product))(k=X)


def test_a_method_in_such_a_wrapper():
    class Model:
        scale = 2.0

        @tj.function
        @with_last(3.0)
        def step(self, a, k):
            return a * k * self.scale

    assert Model().step(Y).numpy().tolist() == [24.0, -6.0]


def test_a_wrapper_finds_only_what_it_is_given():
    def power(a, p=2.0):
        return a * p

    same(with_p(power), X)
    same(tj.autograph.to_graph(with_p(power)), X)
    assert tj.autograph.to_graph(with_p(power))(X).numpy().tolist() == [5.0, 10.0]


def test_specs_of_wrapped_functions():
    spec = tj.TensorSpec((None,), tj.float32)
    both = tj.function(passing(product), input_signature=[spec, spec])
    for r in (both(X, Y), both(X, k=Y), both(k=Y, a=X)):
        np.testing.assert_array_equal(r, (X * Y * 2).numpy())

    added = tj.function(adding(product), input_signature=[spec])
    np.testing.assert_array_equal(added(X), (X * 4).numpy())

    given = tj.function(with_p(lambda a, p=2.0: a * p), input_signature=[spec])
    np.testing.assert_array_equal(given(X), (X * 5).numpy())


def test_the_signature_of_a_cached_function_is_that_of_what_it_caches():
    f = tj.function(functools.lru_cache(lambda n, m=2: n * m))
    assert int(f(n=3)) == int(f(3)) == 6


def test_a_gradient_function_in_a_wrapper():
    v = tj.Variable(2.0)

    def takes(f):
        @functools.wraps(f)
        def w(*upstream, variables=None):
            return f(*upstream), [tj.constant(7.0) for _ in variables]

        return w

    @tj.custom_gradient
    def f(x):
        @takes
        def grad(g):
            return g * 5

        return x * v, grad

    with tj.GradientTape() as tape:
        x = tj.constant(1.0)
        tape.watch(x)
        y = f(x)
    assert [float(g) for g in tape.gradient(y, [x, v])] == [5.0, 7.0]
