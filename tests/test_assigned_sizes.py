"""Values whose sizes only the running program knows, assigned to Variables: it checks that they fit."""

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ShapeError


def _zeros(v, n):
    v.assign(tj.zeros((n,)) + 1.0)
    return v * 2.0


def _added(v, n):
    v.assign_add(tj.ones((n,)) * 3.0)
    v.assign_sub(tj.fill([n], 0.5))
    return v * 2.0


def _in_branches(v, n):
    if n > 3:
        v.assign_add(tj.ones((1,)))
    else:
        v.assign(tj.cast(tj.range(n), tj.float32))
    return v + 1.0


def _in_a_loop(v, n):
    for i in tj.range(n):
        v.assign_add(tj.ones((n,)) * tj.cast(i, tj.float32))
    return tj.reduce_sum(v)


def _mask(v, n):
    x = tj.constant([1.0, 2.0, 3.0, 4.0, 5.0])
    v.assign(x[x <= tj.cast(n, tj.float32)])
    return v * 1.0


@pytest.mark.parametrize("f", [_zeros, _added, _in_branches, _in_a_loop, _mask])
@pytest.mark.parametrize("shape", [(3,), (1,)])
def test_like_python(f, shape):
    seen = []
    for wrap in (lambda g: g, tj.function):
        v = tj.Variable(np.full(shape, 2.0, np.float32))
        g, out = wrap(lambda n: f(v, n)), []
        for n in (3, 1, 2, 3, 4):
            try:
                out.append(np.asarray(g(tj.constant(n))).tolist())
            except ShapeError:
                out.append("ShapeError")
            out.append(v.numpy().tolist())
        seen.append(out)
    assert seen[0] == seen[1]


def test_two_axes_and_gradients(twins):
    @twins
    def scene(wrap):
        v = tj.Variable(np.ones((2, 3), np.float32))

        @wrap
        def f(n, m):
            with tj.GradientTape() as t:
                y = tj.reduce_sum(v * v)
            g = t.gradient(y, v)
            v.assign(tj.reshape(tj.reshape(g, (-1,))[: n * m], (n, m)) * 0.25)
            v.assign_add(tj.ones((1, m)))
            v.assign_sub(tj.ones((n, 1)) * 0.5)
            return v + g

        return [f(tj.constant(2), tj.constant(3)) for _ in range(3)]
