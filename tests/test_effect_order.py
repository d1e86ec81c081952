"""The order of effects: printing, checks, branches and loops with effects, whatever shares a loop with whatever."""

import sys

import pytest

import tracejit as tj
from tracejit.passes.fuse import fuse


# --- printing ---------------------------------------------------------------------------------------------------------
def _branch_then_unrolled(x):
    if x > 0:
        print("A", x * 2)
    print("B", x)
    for i in tj.range(2):
        print("C", i)


def _numbered_lines_then_tensors(x):
    print("A", x)
    if x > 0:
        print(x * 2, x)
    print(0, x)
    print(1, x * 1)
    for i in tj.range(2):
        print(i, x * 2)


def _branches_whose_conditions_are_computed_together(x):
    if x > 0:
        print("first", x)
    print("between")
    if x > 1:
        print("second", x)
    if x > 5:
        print("third")
    else:
        print("not third", x * x)


def _a_loop_between(x):
    y = x * 2
    for i in tj.range(6):
        print("step", i, y)
    if y > 1:
        print("after", y + 1)
    print("end", x + 1)


def _what_python_gives_between(x):
    if x > 0:
        print("A")
    y = tj.py_function(_shown, [x * 3], tj.float32)
    if x > 1:
        print("B", y)
    print("C", y + x)


def _shown(t):
    print("called with", t.numpy())
    return t + 1


def _invariant_work_beside_effects(x):
    v = x * 0.5
    for i in tj.range(7):
        print("Q", x)
        v = tj.sin(x) * v
        if v > 100:
            print("never")
    return v


def _invariant_work_in_a_while(x):
    v = x
    while v < 40:
        print("Q", x)
        v = abs(v) * 2 + tj.square(tj.sin(x))
    return v


def _nested(x):
    for i in tj.range(6):
        print("outer", i)
        for j in tj.range(5):
            if x * i > j:
                print("inner", j, x)
        print("end of", i, x * 2)


FUNCTIONS = [
    _branch_then_unrolled, _numbered_lines_then_tensors, _branches_whose_conditions_are_computed_together,
    _a_loop_between, _what_python_gives_between, _invariant_work_beside_effects, _invariant_work_in_a_while, _nested,
]  # fmt: skip


@pytest.mark.parametrize("f", FUNCTIONS)
def test_lines_are_printed_in_order(f, twins):
    @twins
    def scene(wrap):
        g = wrap(f)
        return [g(tj.constant(x)) for x in (2.0, -1.0, 7.0)]


def test_fusion_keeps_effects_apart():
    """A comparison before an effect does not run with what is computed from that effect's result."""

    @tj.function
    def f(x):
        if x > 0:
            print("A")
        y = tj.py_function(lambda t: t, [x], tj.float32)
        return tj.cast(x * y > 0, tj.float32)

    graph = f.graph(tj.constant(2.0), stage="optimized")
    order = [n for n in fuse(graph) if n in graph.nodes and not n.pure]
    assert [n.op.name for n in order] == ["cond", "host_call"]


def test_hoisting_leaves_effects_in_the_steps(capsys):
    """Work that is done before a loop does not take effects of the loop's steps along."""

    @tj.function
    def f(x):
        y = x
        for _ in tj.range(7):
            print("step")
            y = y * 0.5 + tj.sin(x)
        return y

    text = str(f.graph(tj.constant(2.0), stage="optimized"))
    assert text.index("sin(") < text.index("scan(") and text.count("host_call") == 1
    f(tj.constant(2.0))
    assert capsys.readouterr().out == "step\n" * 7


# --- what came before an error ----------------------------------------------------------------------------------------
def _outcome(f, x, v, seen, capsys):
    v.assign(0.0)
    seen.clear()
    with pytest.raises((ValueError, AssertionError)) as caught:
        f(tj.constant(x))
    return capsys.readouterr().out, type(caught.value).__name__, float(v), list(seen)


def test_a_call_that_raises_has_printed_and_changes_nothing(capsys):
    """What was printed before the error stays; Variables and Python objects are as they were before the call."""
    v, seen = tj.Variable(0.0), {}

    def f(x):
        print("begins", x)
        seen["x"] = x
        v.assign(x)
        if x > 0:
            print("positive", v * 2)
            raise ValueError("positive")
        print("not reached for positive x")
        return x

    traced = tj.function(f)
    out, kind, value, keys = _outcome(f, 3.0, v, seen, capsys)
    assert (kind, value, keys) == ("ValueError", 3.0, ["x"])
    assert _outcome(traced, 3.0, v, seen, capsys) == (out, kind, 0.0, [])
    assert float(traced(tj.constant(-2.0))) == float(v) == -2.0 and list(seen) == ["x"]


@pytest.mark.parametrize("limit", [0.5, 3.0, 30.0])
def test_lines_before_a_failed_check_in_a_loop(limit, capsys):
    v, seen = tj.Variable(0.0), {}

    def f(x):
        y = x
        for i in tj.range(8):
            print("step", i, y)
            v.assign_add(y)
            assert y < limit, "too large"
            y = y * 1.7
        print("done")
        return y

    traced = tj.function(f)
    out, kind, _, _ = _outcome(f, 1.0, v, seen, capsys)
    assert _outcome(traced, 1.0, v, seen, capsys) == (out, kind, 0.0, [])


def test_python_called_from_a_program_sees_variables_as_they_are_there():
    v = tj.Variable(1.0)
    seen = []

    @tj.function
    def f(x):
        v.assign(x)
        tj.py_function(lambda now: seen.append((float(v), float(now))), [v], [])
        return v * 2.0

    assert float(f(tj.constant(5.0))) == 10.0
    assert seen == [(5.0, 5.0)] and float(v) == 5.0


# --- values from around a region --------------------------------------------------------------------------------------
@pytest.mark.parametrize("x", [2.0, 7.0, -1.0])
def test_a_variable_assigned_in_a_branch_is_the_result(x):
    v = tj.Variable(1.0)

    def returned(x):
        if x > 0:
            v.assign(x)
            return v
        return x

    def bound(x):
        y = x
        if x > 0:
            v.assign(x)
            y = v
        return y

    def in_a_loop(x):
        y = x
        for i in tj.range(6):
            if x > i:
                v.assign(x)
                y = v * 1.0
        return y

    def assigned_to_another(x):
        w = x * 2.0
        if x > 0:
            v.assign(w)
        else:
            v.assign_add(w)
        return v

    for f in (returned, bound, in_a_loop, assigned_to_another):
        seen = []
        for g in (f, tj.function(f)):
            v.assign(1.0)
            seen.append((float(g(tj.constant(x))), float(v)))
        assert seen[0] == seen[1], f.__name__


def _inner_break(x):
    n = 0
    for i in range(1, 100):
        for j in range(i):
            if i * j > 20 * x:
                break
            n += j
        if n > 100:
            break
    return [n, i, j]


def _power(x):
    n = 1
    for i in range(2, 90):
        for j in range(i):
            if i**2 * j > 9 * x:
                break
            n += i * j
        if n > 500:
            break
    return [n]


def _shift(x):
    n = 0
    for i in range(1, 80):
        for _ in range(3):
            if x > 100:
                break
            n += i << 2
        if n > 300:
            break
    return [n]


def _division(x):
    n = 0
    for i in range(1, 80):
        for j in range(1, i):
            if i // j + x < 4:
                break
            n += i % j
        if n > 200:
            break
    return [n]


def _bits(x):
    n = 0
    for i in range(1, 80):
        for j in range(i):
            if i - j < x:
                break
            n = (n ^ (i * j)) | (~j & 3)
        if n > 900:
            break
    return [n]


@pytest.mark.parametrize("f", [_inner_break, _power, _shift, _division, _bits])
@pytest.mark.parametrize("x", [2.0, 5.0])
def test_integers_of_one_loop_in_the_steps_of_another(f, x):
    want, got = ([int(n) for n in g(tj.constant(x))] for g in (f, tj.function(f)))
    assert got == want


def test_effects_of_a_branch_that_is_known_happen_once(capsys) -> None:
    """A branch without results is spliced in where its condition folds, and then is gone."""
    p, log = tj.constant(-1.0), []

    @tj.function
    def f(x):
        if p < 0:
            print("seen")
            if tj.constant(2.0) < 3:
                log.append(1)
        tj.cond(p < 0, lambda: tj.print("also", output_stream=sys.stdout), lambda: None)
        return x

    for i in range(1, 4):
        f(1.0)
        assert capsys.readouterr().out == "seen\nalso\n" and len(log) == i
    assert "cond" not in str(f.graph(1.0, stage="optimized"))
