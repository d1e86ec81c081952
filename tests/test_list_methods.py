"""Lists whose length is known only when the program runs, changed and read as Python does it, without falling back."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, ConversionWarning, OutOfRangeError


def plain(x):
    if isinstance(x, tj.Tensor):
        return "tensor", str(x.dtype), x.numpy().tolist()
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return [type(x).__name__, *map(plain, x)] if isinstance(x, (list, tuple)) else (type(x).__name__, x)


def converts(f, *args):
    args = [tj.constant(a) if not isinstance(a, tj.Tensor) else a for a in args]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        traced = tj.function(f)
        assert plain(traced(*args)) == plain(f(*args))


def grown(x):
    out = []
    while x < 10.0:
        out.append(x)
        x = x * 1.5
    return out


def pop(x):
    out = grown(x)
    return out.pop(), out, len(out)


def pop_first(x):
    out = grown(x)
    return out.pop(0), out.pop(-2), out


def pop_what_was_added(x):
    out = grown(x)
    out.append(x * 3)
    return out.pop(), out.pop(), out


def reverse(x):
    out = grown(x)
    out.reverse()
    return out, list(reversed(out))


def insert(x):
    out = grown(x)
    for i in (0, 2, -1, 100, -100):
        out.insert(i, x * i)
    return out


def extend(x):
    out = grown(x)
    out.extend(grown(x * 2))
    out += [x, x]
    return out, out + [x], [x] + grown(x)


def delete(x):
    out = grown(x)
    del out[-1]
    del out[1]
    return out


def delete_a_slice_falls_not_silently(x):
    out = grown(x)
    return out[1:], out[:-1], out[::-1], out[1:3], out[-100:2], out[::2], out[3:1:-1], out[50:], out[:]


def set_items(x):
    out = grown(x)
    out[0] = x * 5
    out[-1] = x
    out[1] = 7.5 * x
    return out


def membership(x):
    out = grown(x)
    return x in out, x * 100 in out, 7.0 not in out, out.index(x * 1.5), out.count(x), len(out) / 2, len(out) * 2


def remove(x):
    out = grown(x)
    out.remove(x * 1.5)
    other = out.copy()
    other.append(x)
    return out, other, list(out)


def total(x):
    out = grown(x)
    return sum(out), sum(out, x), max(out), min(out), sorted(out, reverse=True), any(out)


def sort(x):
    out = [x * 3]
    out += grown(x)
    out.sort()
    return out


def neighbours(x):
    out, s = grown(x), 0.0
    for a, b in zip(out, out[1:]):  # noqa: RUF007
        s = s + a * b
    return s


def of_numbers(x):
    out, n = [], 0
    while x < 10.0:
        out.append(n)
        n += 1
        x = x * 2
    out.insert(1, 5)
    s = 0
    for k in out:
        s = s + k
    last = out.pop()
    return out, last, out[0] * x, tj.stack(out), s * x, sum(out)


def of_floats(x):
    return [float(v) / 3 for v in grown(x)], [v > 2 for v in grown(x)]


def in_a_dict(x):
    d = {"a": grown(x)}
    d["a"].reverse()
    d["n"] = len(d["a"])
    return d


METHODS = [
    pop, pop_first, pop_what_was_added, reverse, insert, extend, delete, delete_a_slice_falls_not_silently, set_items,
    membership, remove, total, sort, neighbours, of_numbers, of_floats, in_a_dict,
]  # fmt: skip


@pytest.mark.parametrize("f", METHODS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("x", [1.0, 1.25])
def test_changed_and_read(f, x):
    converts(f, x)


@pytest.mark.parametrize(
    "f,error",
    [
        (lambda x: grown(x).pop(), OutOfRangeError),
        (lambda x: grown(x).pop(3), OutOfRangeError),
        (lambda x: grown(x).index(x), ArgumentError),
    ],
)
def test_errors_of_lists_without_such_an_item(f, error):
    x = tj.constant(20.0)
    with pytest.raises((IndexError, ValueError)) as told:
        f(x)
    with pytest.raises(error):
        tj.function(f)(x)
    assert issubclass(error, told.type)



def rows(xs):
    out = []
    for v in xs:
        if v[0] > 1.0:
            out.append(v * 2)
    out.reverse()
    first = out.pop(0)
    out.insert(1, first * 3)
    return tj.reduce_sum(tj.stack(out) * first)


def steps(x):
    out = grown(x)
    last = out.pop()
    out[0] = out[1] * x
    return sum(v * last for v in out)


@pytest.mark.parametrize("f,x", [(rows, np.array([[0.5, 1], [2, 3], [4, 5], [1.5, 2]])), (steps, np.array(1.1))])
def test_gradients(f, x):
    x = tj.constant(x)

    def slope(g):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = g(x)
        return tape.gradient(y, x).numpy()

    np.testing.assert_allclose(slope(tj.function(f)), slope(f), rtol=1e-6)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: tuple(grown(x)),
        lambda x: grown(x) * 2,
        lambda x: sorted(grown(x), key=lambda v: -v),
    ],
)
def test_what_stays_pythons_falls_back(f):
    x = tj.constant(1.0)
    with pytest.warns(ConversionWarning, match="plain Python"):
        assert plain(tj.function(f)(x)) == plain(f(x))


# --- comprehensions ---------------------------------------------------------------------------------------------------
def found(x):
    return [r * 2 for r in x[x > 2]], sum([r * r for r in x[x > 3]]), tj.stack([r + 1 for r in x[x > 2]])


def filtered(x):
    return [r for r in x if r > 2], sum(r for r in x if r > 2 if r < 5), [i for i, r in enumerate(x) if r > 2]


def of_python_lists(x):
    every = [x[0], x[1] * 2, x[2]]
    return [v for v in every if v > 2], [k for k in range(5) if k % 2], [k for k in "abc" if k != "b"]


def side_by_side(x):
    return [a * b for a, b in zip(x[x > 2], x)], [i for i in range(tj.cast(x[3], "int32"))], list(x[x > 4])  # noqa: C416


def nested(x):
    return [tj.reduce_sum(tj.stack([r * s for s in x[x > 1]])) for r in x[x > 4]]


def closures(x):
    k = x[0] * 3
    return [(lambda v: v * k)(r) for r in x if r > k - 1]


def in_sums(x):
    every = [x[0], x[1] * 2, x[2]]
    return sum(v * 2 for v in every if v > 2), max(v for v in x[x > 2]), sorted(v for v in x if v > 1)


@pytest.mark.parametrize(
    "f", [in_sums, found, filtered, of_python_lists, side_by_side, nested, closures], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("x", [[1.0, 2, 3, 4, 5, 6], [3.0, 1, 5, 3, 9]])
def test_comprehensions(f, x):
    converts(f, np.array(x))


def test_a_generator_is_gone_through_once():
    def f(x):
        rows = (r for r in x if r > 2)
        return sum(rows), sum(rows), next(r for r in x if r > 2)

    x = tj.constant([1.0, 3.0, 4.0])
    with pytest.warns(ConversionWarning, match="plain Python"):
        assert plain(tj.function(f)(x)) == plain(f(x))


def test_a_comprehension_over_an_open_size_is_traced_once():
    f = tj.function(lambda x: [v * 2 for v in x], input_signature=[tj.TensorSpec((None,), tj.float32)])
    for n in (2, 3, 7):
        assert [float(v) for v in f(np.arange(n, dtype=np.float32))] == [2.0 * i for i in range(n)]
    assert len(f.traces) == 1


def test_gradients_of_comprehensions():
    x = tj.constant([1.0, 2.0, 3.0, 4.0])

    def f(x):
        return sum([r * r for r in x if r > 1.5])

    with tj.GradientTape() as tape:
        tape.watch(x)
        y = tj.function(f)(x)
    assert tape.gradient(y, x).numpy().tolist() == [0.0, 4.0, 6.0, 8.0]
