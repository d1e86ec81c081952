"""Windows, batches and the beginnings and ends of tensors in loops that a tensor ends, used after them."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning, GraphError
from tracejit.ir.dim import Dim
from tracejit.ir.graph import Builder
from tracejit.ir.op import OPS
from tracejit.ir.types import TensorType, float32
from tracejit.passes.found import apart
from tracejit.passes.match import level


def plain(x):
    if isinstance(x, dict):
        return {k: plain(y) for k, y in x.items()}
    return [plain(y) for y in x] if isinstance(x, (tuple, list)) else np.asarray(x).tolist()


def first_window(x):
    for i in range(len(x) - 2):
        w = x[i : i + 3]
        if tj.reduce_sum(w) > 8:
            break
    return w


def returned_window(x):
    for i in range(len(x) - 2):
        w = x[i : i + 3]
        if tj.reduce_sum(w) > 8:
            return w
    return x[:3] * 0


def window_of_a_tensor_range(x):
    w = x[:3]
    for i in tj.range(len(x) - 2):
        w = x[i : i + 3]
        if tj.reduce_sum(w) > 8:
            break
    return w


def counted_windows(x):
    best, n = x[:3], 0
    for i in range(len(x) - 2):
        w = x[i : i + 3]
        n += 1
        if tj.reduce_sum(w) > tj.reduce_sum(best):
            best = w
        if n > 1 and tj.reduce_sum(best) > 8:
            break
    return best, n


def around(x):
    for i in range(1, len(x) - 1):
        w = x[i - 1 : i + 2]
        if w[1] > w[0] and w[1] > w[2]:
            return w, i
    return x[:3], -1


def from_the_end(x):
    for i in range(len(x) - 2, -1, -1):
        w = x[i : i + 2]
        if tj.reduce_sum(w) > 8:
            break
    return w


def whole_batches(x):
    for k in range(len(x) // 2):
        b = x[k * 2 : (k + 1) * 2]
        if tj.reduce_sum(b) > 8:
            break
    return b, k


def nested(x):
    w = x[:2]
    for i in range(len(x) - 3):
        for j in range(2):
            w = x[i + j : i + j + 2]
            if tj.reduce_sum(w) > 9:
                break
        if tj.reduce_max(w) > 4:
            break
    return w


def ring(x):
    w = x[:2]
    for i in range(7):
        w = x[i % 3 : i % 3 + 2] + 0.1 * w
        if tj.reduce_sum(w) > 9:
            break
    return w


def every_other(x):
    for i in range(len(x) - 3):
        w = x[i : i + 4 : 2]
        if tj.reduce_sum(w) > 7:
            break
    return w


def numbered(x):
    w = x[:1]
    for i, v in enumerate(x):
        w = x[i : i + 1]
        if v > 4:
            break
    return w


def assigned(x):
    y = x * 0
    for i in range(len(x) - 1):
        y[i : i + 2] = x[i : i + 2] * 2
        if y[i] > 6:
            break
    return y


def kept_in_a_dict(x):
    d = {}
    for i in range(len(x)):
        d["last"] = x[i : i + 1]
        d["i"] = i
        if x[i] > 4:
            break
    return d


COMPILED = [
    first_window, returned_window, window_of_a_tensor_range, counted_windows, around, from_the_end, whole_batches,
    nested, ring, every_other, numbered, assigned, kept_in_a_dict,
]  # fmt: skip
GIVEN = ([1.0, 2.0, 3.0, 4.0, 5.0, 1.0], [10.0, 9.0, 8.0, 0.0], [1.0, 5.0, 0.0, 2.0, 1.0, 0.0, 7.0, 7.0, 1.0, 2.0])


@pytest.mark.parametrize("f", COMPILED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("open_size", [False, True], ids=["sizes", "any size"])
def test_windows_of_known_lengths(f, open_size):
    g = tj.function(f, strict=True, input_signature=[tj.TensorSpec([None])] if open_size else None)
    for v in GIVEN:
        x = tj.constant(v)
        with tj.debug():
            expected = plain(tj.function(f)(x))
        assert plain(g(x)) == expected


def batches(x, n):
    for i in range(0, len(x), n):
        yield x[i : i + n]


def last_batch(x):
    s = 0.0
    for b in batches(x, 2):
        s += tj.reduce_sum(b)
        if s > 20:
            break
    return s, tj.reduce_sum(b)


def batches_twice(x):
    s = 0.0
    for b in batches(x, 2):
        s += tj.reduce_sum(b)
        if s > 20:
            break
    return s, [tj.reduce_max(b) for b in batches(x, 3)]


def split(x):
    for k in range(1, len(x)):
        a, b = x[:k], x[k:]
        if tj.reduce_sum(a) >= tj.reduce_sum(b):
            break
    return tj.reduce_sum(a), tj.reduce_sum(b), k


def ragged_rows(x):
    m = tj.stack([x, x * 2, x * 3])
    for r in range(0, 3, 2):
        block = m[r : r + 2]
        if tj.reduce_max(block) > 8:
            break
    return tj.reduce_sum(block)


def beginning(x):
    for k in range(1, len(x)):
        h = x[:k]
        if tj.reduce_sum(h) > 6:
            break
    return h


@pytest.mark.parametrize("f", [last_batch, batches_twice, split, ragged_rows, beginning], ids=lambda f: f.__name__)
def test_windows_whose_length_the_program_finds_out(f):
    for v in (*GIVEN, [1.0, 2.0, 3.0, 4.0, 5.0], [0.5, 9.0]):
        x = tj.constant(v)
        with tj.debug():
            expected = plain(tj.function(f)(x))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert plain(tj.function(f)(x)) == expected
        assert [w.category for w in caught] in ([], [ConversionWarning])


def test_checks_of_attempts_that_are_given_up_go():
    g = tj.function(first_window)
    graph = g.get_concrete_function(tj.constant(GIVEN[0])).graph
    assert not any(n.op.name == "check" for n in graph.nodes)


def test_a_part_whose_size_nothing_tells_is_refused():
    b = Builder()
    p = b.param(TensorType(float32, ()))
    d = Dim.symbol("found_x", 5)
    (n,) = b.emit(OPS["dim"], (), (("size", d),))
    (x,) = b.emit(OPS["cast"], (n,), (("dtype", float32),))
    (y,) = b.emit(OPS["add"], (p, x))
    with pytest.raises(GraphError, match="nothing tells found_x"):
        apart(b.finish("g", [y]), level("finite"))


def other_size_in_a_branch(x):
    y = x[x > 0]
    if x[0] > 0:
        y = x[:3] * 2
    return tj.reduce_sum(y)


def other_size_in_a_loop(x):
    y = x[x > 0]
    for _ in tj.range(5):
        y = x[:3] * 2
        if tj.reduce_sum(y) > 100:
            break
    return tj.reduce_sum(y)


def found_in_a_while_loop(x):
    i, w = 0, x[:3]
    while i + 3 <= len(x):
        w = x[i : i + 3]
        if tj.reduce_max(w) == w[1]:
            break
        i += 1
    return w, i


@pytest.mark.parametrize("f", [other_size_in_a_branch, found_in_a_while_loop])
def test_sizes_that_differ_where_ways_meet_make_plain_python_of_it(f):
    g = tj.function(f)
    with pytest.warns(ConversionWarning) as caught:
        for v in GIVEN:
            with tj.debug():
                expected = plain(f(tj.constant(v)))
            assert plain(g(tj.constant(v))) == expected
    assert len(caught) == 1


def cut_at_the_end(x):
    w, s = x[:2], 0.0
    for i in tj.range(1, 6):
        w = x[len(x) - i : len(x) - i + 3]
        s = s + tj.reduce_sum(w)
    return s, tj.reduce_sum(w)


@pytest.mark.parametrize("f", [cut_at_the_end, other_size_in_a_loop])
def test_windows_with_known_ends(f):
    for v in GIVEN:
        with tj.debug():
            expected = plain(f(tj.constant(v)))
        assert plain(tj.function(f, strict=True)(tj.constant(v))) == expected
