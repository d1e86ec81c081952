"""Tensors that grow or shrink in loops over numbers which tensors end: what is returned has the size of that step."""

import numpy as np
import pytest
from helpers import outcome

import tracejit as tj

W = np.random.default_rng(3).normal(size=(4, 4)).astype(np.float32)


def growing(x):
    s = x[:1]
    for t in range(5):
        s = tj.concat([s, x[t : t + 1] * 2], 0)
        if tj.reduce_sum(s) > 8:
            break
    return s


def two_axes(x):
    s = tj.reshape(x[:1], (1, 1))
    for t in range(4):
        s = tj.concat([s, s[:, -1:] + x[t]], 1)
        s = tj.concat([s, s[:1]], 0)
        if tj.reduce_max(s) > 6:
            break
    return s, tj.reduce_sum(s), t


def the_first_that_is_enough(x):
    for k in range(1, 6):
        h = x[:k]
        if tj.reduce_sum(h) > 6:
            break
    return h


def of_integers_in_a_dict(x):
    s = tj.cast(x[:2], tj.int32)
    for t in range(3):
        s = tj.concat([s, s[-1:] + t], 0)
        if s[-1] > 4:
            break
    return {"s": s, "n": [s, s * 2]}


def beams(x):
    seqs, scores = tj.fill([1, 1], 0), tj.zeros([1])
    for _ in range(4):
        lp = tj.nn.log_softmax(tj.gather(tj.constant(W), seqs[:, -1]) * x[0])
        flat = tj.reshape(scores[:, None] + lp, [-1])
        scores, idx = tj.math.top_k(flat, min(3, flat.shape[0]))
        seqs = tj.concat([tj.gather(seqs, idx // 4), (idx % 4)[:, None]], 1)
        if tj.reduce_max(scores) < -3:
            break
    return seqs, scores


VALUES = [[1.0, 2, 3, 4, 5, 6], [0.0, 0, 0, 0, 0, 0], [9.0, 1, 1, 1, 1, 1], [3.0, 1, 0, 1, 0, 1]]


@pytest.mark.parametrize(
    "f", [growing, two_axes, the_first_that_is_enough, of_integers_in_a_dict, beams], ids=lambda f: f.__name__
)
def test_what_loops_leave_has_the_size_of_the_last_step(f):
    traced = tj.function(f, strict=True)
    for v in VALUES:
        got, want = traced(tj.constant(v)), f(tj.constant(v))
        if isinstance(want, dict):
            got, want = [got["s"], *got["n"]], [want["s"], *want["n"]]
        for a, b in zip(*[y if isinstance(y, (tuple, list)) else [y] for y in (got, want)], strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4)


def test_sizes_of_an_open_axis_run_as_plain_python_or_are_right():
    f = tj.function(growing)
    for n in (6, 7):
        x = np.arange(n, dtype=np.float32)
        assert outcome(f, tj.constant(x)) == outcome(growing, tj.constant(x))


def test_gradients_of_what_such_a_loop_leaves():
    def grad(f):
        x = tj.constant(VALUES[0])
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = tj.reduce_sum(f(x) ** 2)
        return tape.gradient(y, x).numpy()

    np.testing.assert_allclose(grad(tj.function(growing, strict=True)), grad(growing), rtol=1e-5)
