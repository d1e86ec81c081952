"""`explain` tells where branches and steps of loops give different dtypes, with the line and both of them."""

import pytest

import tracejit as tj

X = tj.ones(2)


def wider_branch(x):
    if tj.reduce_sum(x) > 0:
        y = x
    else:
        y = tj.cast(x, tj.float64)
    return y


def numbers_of_two_kinds(x):
    if tj.reduce_sum(x) > 0:
        n = 1
    else:
        n = 2.5
    return x * n


def of_an_expression(x):
    return x if x[0] > 0 else tj.cast(x, tj.float64)


def wider_step(x):
    total = tj.zeros(2)
    for _ in tj.range(5):
        total = total + x * tj.constant(2.0, tj.float64)
    return total


def wider_while(x):
    count = tj.constant(1)
    while tj.reduce_sum(x) > 0:
        count = count * 2.5
        x = x - 1
    return count


def inside_a_branch(x):
    y = tj.cast(x, tj.float64)
    for _ in tj.range(5):
        if x[0] > 0:
            y = x
    return y


def loops_of_ops(x):
    return tj.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * tj.constant(2.0, tj.float64)), (0, x))[1]


def branches_of_ops(x):
    return tj.cond(x[0] > 0, lambda: x, lambda: tj.cast(x, tj.float64))


def of_a_called_function(x):
    return wider_branch(x) * 2


@pytest.mark.parametrize(
    ("f", "note"),
    [
        (wider_branch, "'y' is float32 in one branch, float64 in the other: float64"),
        (numbers_of_two_kinds, "'n' is a Python int in one branch, a Python float in the other: a Python float"),
        (of_an_expression, "is float32 in one branch, float64 in the other: float64"),
        (wider_step, "'total' is float32 before a step of the loop, float64 after it: float64"),
        (wider_while, "'count' is int32 before a step of the loop, float64 after it: float64"),
        (inside_a_branch, "'y' is float32 in one branch, float64 in the other: float64"),
        (loops_of_ops, "value 1 of the state is float32 before a step of the loop, float64 after it: float64"),
        (branches_of_ops, "the result is float32 in one branch, float64 in the other: float64"),
        (of_a_called_function, "'y' is float32 in one branch, float64 in the other: float64"),
    ],
)
def test_explain_notes_promoted_dtypes(f, note):
    text = tj.function(f).explain(X)
    (section,) = [s for s in text.split("\n\n") if s.startswith("promoted")]
    (line,) = section.splitlines()[1:]
    where, _, found = line.strip().partition("  ")
    source = wider_branch if f is of_a_called_function else f
    first = source.__code__.co_firstlineno
    assert note in found
    assert where.startswith("test_promotion_notes.py:")
    assert first <= int(where.rpartition(":")[2]) <= max(n for *_, n in source.__code__.co_lines() if n)


def of_one_dtype(x):
    if tj.reduce_sum(x) > 0:
        y, n = x, 1.0
    else:
        y, n = tj.ones_like(x), tj.reduce_sum(x)
    for i in tj.range(3):
        y = y * n + i * 2.0
    return y


def test_nothing_is_noted_where_dtypes_agree():
    """A Python number that takes a tensor's dtype is no other dtype."""
    assert "promoted" not in tj.function(of_one_dtype).explain(X)
    assert "promoted" not in tj.function(lambda x: x + tj.cast(x, tj.float64)).explain(X)
