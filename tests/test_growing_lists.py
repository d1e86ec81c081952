"""Lists that grow in loops and branches of traced functions hold, and tell, what Python's would."""

import warnings

import numpy as np
import pytest

import tracejit as tj

X = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


def plain(x):
    if isinstance(x, tj.Tensor):
        return x.numpy().tolist()
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return [type(x).__name__, *map(plain, x)] if isinstance(x, (list, tuple)) else x


def while_and_after(x):
    out = []
    while x < 10.0:
        out.append(x)
        x = x * 1.5
    out.append(x)
    return len(out), out[0], out[-1], out[-2], out


def with_a_break(x):
    out = [x]
    for _ in range(3):
        out.append(out[-1] * 2)
        if out[-1] > 10:
            break
    return len(out), out[-1], out


def break_before(x):
    out = []
    for _ in range(3):
        if x > 5:
            break
        out.append(x)
        x = x * 2
    return len(out), out


def in_branches(x):
    out = [x]
    if x > 2:
        out.append(x * 2)
    else:
        out.append(x * 3)
        out.append(x + 1)
    total = 0.0
    for v in out:
        total = total + v
    return out, total, len(out)


def in_a_dict(x):
    d = {"a": [], "b": [x]}
    while x < 10.0:
        d["a"].append(x)
        x = x * 2
        if x > 5.0:
            d["b"].append(x)
    return d, len(d["a"])


def true_if_not_empty(x):
    out = []
    while x < 2.0:
        out.append(x)
        x = x * 2
    return x * 2 if out else x


def numbers(x):
    out = [0]
    while x < 10.0:
        x = x * 2
        out.append(out[-1] + 1)
    return out


def looked_through(x):
    out = []
    while x < 10.0:
        out.append(x)
        x = x * 2
    total = 0.0
    for i, v in enumerate(out):
        total = total + i * v
    return total, out[1], x in out


@pytest.mark.parametrize(
    "f",
    [while_and_after, with_a_break, break_before, in_branches, in_a_dict, true_if_not_empty, numbers, looked_through],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("x", [1.0, 3.0])
def test_lists_of_unknown_length(f, x):
    if f is looked_through and x == 3.0:
        x = 2.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.errors.ConversionWarning)
        assert plain(tj.function(f)(tj.constant(x))) == plain(f(tj.constant(x)))


def running_product(xs):
    out = [xs[0]]
    for v in xs:
        out.append(out[-1] * v)
    return out


def sum_of_two(xs):
    out = [xs[0], xs[1]]
    for v in xs:
        out.append(out[-1] + out[-2] * v)
    return out, len(out)


def reads_its_length(xs):
    out = []
    for v in xs:
        out.append(v + len(out))
    return out


def chosen(xs):
    out = []
    for v in xs:
        if v > 2.5:
            out.append(v * 2)
    return out, len(out), tj.stack(out)


def in_two_loops(xs):
    out = []
    for v in xs:
        for w in xs:
            if w > v:
                out.append(v * w)
    return len(out), out


def twice_in_a_step(xs):
    out = []
    for v in xs:
        out.append(v)
        out.append(v * 2)
    return out[3], sum(out), len(out), out[2:5], max(out), tj.stack(out)


@pytest.mark.parametrize(
    "f",
    [running_product, sum_of_two, reads_its_length, chosen, in_two_loops, twice_in_a_step],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("n", [2, 6, 100])
def test_lists_of_rows(f, n):
    xs = tj.constant(np.linspace(0.5, 3.0, n))
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.errors.ConversionWarning)
        got, wanted = plain(tj.function(f)(xs)), plain(f(xs))
    assert str(type(got)) == str(type(wanted))
    _near(got, wanted)


def _near(a, b):
    if isinstance(b, list):
        assert len(a) == len(b)
        for p, q in zip(a, b, strict=True):
            _near(p, q)
    else:
        assert a == pytest.approx(b) if isinstance(b, float) else a == b


def test_a_stack_of_what_a_loop_adds_is_the_tensor_that_it_makes():
    def f(xs):
        out = []
        for v in xs:
            out.append(v * 2)
        return tj.stack(out)

    traced = tj.function(f)
    traced(tj.constant(X))
    ops = [n.op.name for n in traced.concrete_functions[0].graph.nodes]
    assert "concat" not in ops and "slice" not in ops


def test_gradients_through_grown_lists():
    def rows(xs):
        with tj.GradientTape() as tape:
            tape.watch(xs)
            out = []
            for v in xs:
                if v > 2.5:
                    out.append(v * v)
            y = tj.reduce_sum(tj.stack(out)) + out[-1]
        return tape.gradient(y, xs)

    def steps(x):
        with tj.GradientTape() as tape:
            tape.watch(x)
            z, out = x, []
            while z < 10.0:
                out.append(z * z)
                z = z * 2
            y = out[-1] + out[0]
            for v in out:
                y = y + v
        return tape.gradient(y, x)

    for f, x in ((rows, tj.constant(X)), (steps, tj.constant(1.0))):
        np.testing.assert_allclose(tj.function(f)(x), f(x))


def test_what_a_grown_list_cannot_tell_falls_back():
    def f(x):
        out = []
        while x < 10.0:
            out.append(x)
            x = x * 2
        out.sort(key=lambda v: -v)
        return out

    traced = tj.function(f)
    with pytest.warns(tj.errors.ConversionWarning, match="sort\\(\\) of a list that grows"):
        got = traced(tj.constant(1.0))
    assert plain(got) == plain(f(tj.constant(1.0)))


def test_messages_say_what_differs():
    def f(x):
        d = {}
        if x > 2:
            d["k"] = "text"
        else:
            d["k"] = x
        return d["k"]

    traced = tj.function(f)
    with pytest.warns(tj.errors.ConversionWarning, match="str 'text' in one branch, in the other a tensor"):
        traced(tj.constant(1.0))


def test_a_condition_with_effects_is_asked_for_once_a_step():
    v = tj.Variable(0.0)

    def f(x, seen):
        def small(y):
            seen.append(y)
            v.assign_add(1.0)
            return y < 5

        while small(x):
            x = x + 2
        return x

    for g in (f, tj.function(f)):
        v.assign(0.0)
        seen = []
        assert float(g(tj.constant(2.0), seen)) == 6.0
        assert [float(y) for y in seen] == [2.0, 4.0, 6.0]
        assert float(v) == 3.0


# --- that stay empty --------------------------------------------------------------------------------------------------
def stacked(x):
    out = []
    for v in x:
        if v > 2:
            out.append(v)
    return tj.stack(out)


def joined(x):
    out = []
    for v in x:
        if v > 2:
            out.append(tj.stack([v, v + 1]))
    return tj.concat(out, 0)


def summed(x):
    out = []
    for i, v in enumerate(x):
        if v > 2:
            if i >= 0:
                out.append(v)
    return tj.add_n(out)


@pytest.mark.parametrize("f", [stacked, joined, summed], ids=lambda f: f.__name__)
def test_what_needs_one_tensor_tells_where_there_is_none(f):
    traced = tj.function(f)
    some, none = tj.constant([1, 3, 0, 5, 2, 4]), tj.constant([1, 2, 0, 1, 2, 0])
    np.testing.assert_array_equal(traced(some).numpy(), f(some).numpy())
    with pytest.raises(tj.errors.ArgumentError, match="needs one tensor or more"):
        f(none)
    lines = rf"needs one tensor or more[\s\S]*in {f.__name__}:   return tj\."
    with pytest.raises(tj.errors.ArgumentError, match=lines):
        traced(none)


def stacked_where_there_is_one(x):
    out = []
    for v in x:
        if v > 2:
            out.append(v)
    return tj.stack(out) if len(out) > 0 else x[:0]


def test_a_branch_that_is_not_taken_does_not_tell():
    traced = tj.function(stacked_where_there_is_one)
    none = tj.constant([1, 2, 0, 1, 2, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert traced(none).numpy().tolist() == []
