"""Algorithms that assign to elements of arrays, run on NumPy's arrays, as plain Python on tensors, and traced."""

import numpy as np
import pytest
from array_programs import PROGRAMS
from control_flow_corpus import Plain

import tracejit as tj

SMOOTH = [name for name, (_, _, smooth) in PROGRAMS.items() if smooth]


def drawn(name, k):
    rng = np.random.default_rng([k, len(name)])
    return [draw(rng) for draw in PROGRAMS[name][1]]


def leaves(x):
    return [y for z in x for y in leaves(z)] if isinstance(x, (tuple, list)) else [x]


def traced(name):
    return tj.function(lambda *args: PROGRAMS[name][0](tj, *args), strict=True)


def agree(got, want):
    got, want = leaves(got), leaves(want)
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        if isinstance(b, (np.ndarray, np.generic)):
            assert np.asarray(a).dtype.kind == b.dtype.kind


def expected(name, arrays):
    with np.errstate(all="ignore"):
        return PROGRAMS[name][0](Plain, *[np.array(a)[()] for a in arrays])


@pytest.mark.parametrize("name", PROGRAMS)
def test_traced_equals_numpy(name):
    f = traced(name)
    for k in range(5):
        arrays = drawn(name, k)
        agree(f(*map(tj.constant, arrays)), expected(name, arrays))


@pytest.mark.parametrize("name", PROGRAMS)
def test_plain_python_on_tensors_equals_numpy(name):
    f = tj.function(PROGRAMS[name][0])
    arrays = drawn(name, 1)
    with tj.debug():
        agree(f(tj, *map(tj.constant, arrays)), expected(name, arrays))


def loss(m, made):
    total = m.constant(0.0, m.float64)
    for k, y in enumerate(leaves(made)):
        if getattr(y, "dtype", None) == np.float64:
            total = total + m.reduce_sum(y * y) * (1.0 + 0.5 * k)
    return total


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_equal_central_differences(name):
    f = traced(name)
    for k in (0, 1):
        arrays = drawn(name, k)
        args = [tj.constant(a) for a in arrays]
        inputs = [x for x in args if x.dtype == tj.float64]
        with tj.GradientTape() as tape:
            tape.watch(inputs)
            y = loss(tj, f(*args))
        made = iter(tape.gradient(y, inputs, unconnected_gradients="zero"))
        for j, a in enumerate(arrays):
            if a.dtype != np.float64:
                continue
            got = next(made).numpy()
            for at in list(np.ndindex(*a.shape))[:6]:
                ends = []
                for h in (1e-6, -1e-6):
                    moved = [b.copy() for b in arrays]
                    moved[j][at] += h
                    ends.append(loss(Plain, expected(name, moved)))
                np.testing.assert_allclose(got[at], (ends[0] - ends[1]) / 2e-6, rtol=1e-5, atol=1e-6)
