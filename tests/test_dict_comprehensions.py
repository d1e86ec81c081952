"""Dict comprehensions with conditions on tensors, and functions with a gradient of their own and control flow."""

import numpy as np
import pytest

import tracejit as tj


def chosen(x):
    d = {i: x[i] * 2.0 for i in range(3) if x[i] > 1.0}
    return d, len(d), d.get(0, -1.0), 2 in d


def of_pairs(x):
    k = 4.0
    return {n: v * k for n, v in {"a": x, "b": x * 2.0}.items() if n != "a"}


def of_rows(x):
    return {i: tj.reduce_sum(v) for i, v in enumerate(x) if v > 2.0 and i != 1}


@pytest.mark.parametrize("f", [chosen, of_pairs, of_rows], ids=lambda f: f.__name__)
def test_keys_that_a_tensor_decides_on(f):
    traced = tj.function(f, strict=True)
    for values in ([1.0, 2.0, 3.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0]):
        x = tj.constant(values)
        made, want = traced(x), f(x)
        got, expected = (made[0], want[0]) if type(made) is tuple else (made, want)
        assert list(got) == list(expected)
        for k in got:
            np.testing.assert_array_equal(got[k], expected[k])
        if type(made) is tuple:
            assert [float(v) for v in made[1:]] == [float(v) for v in want[1:]]


def test_a_custom_gradient_around_a_loop():
    @tj.custom_gradient
    def doubled(x):
        y = x
        while y < 10.0:
            y = y * 2.0
        return y, lambda g: g * (3.0 if y > 11.0 else 2.0)

    f = tj.function(lambda x: doubled(x) * 1.0, strict=True)
    for v, want, slope in ((1.5, 12.0, 3.0), (1.3, 10.4, 2.0)):
        x = tj.constant(v)
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        np.testing.assert_allclose(y, want, rtol=1e-6)
        assert float(tape.gradient(y, x)) == slope
