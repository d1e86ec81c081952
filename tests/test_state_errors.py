"""Variables whose shapes or keys differ after branches and steps: errors name them, and the line that sets them."""

import pytest

import tracejit as tj
from tracejit.errors import ConversionError, ShapeError

X = tj.ones((3, 4))


def message(f, kind):
    with pytest.raises(kind) as caught:
        tj.function(f, strict=True)(X)
    return str(caught.value)


def line(f, k):
    return f"test_state_errors.py:{f.__code__.co_firstlineno + k}"


def in_branches(x):
    if tj.reduce_sum(x) > 0.0:
        r = x
    else:
        r = x[0]
    return r


def in_a_step(x):
    while tj.reduce_sum(x) < 100.0:
        x = tj.concat([x, x], 0)
    return x


def in_a_counted_loop(x):
    r = x
    for _ in tj.range(tj.cast(tj.reduce_sum(x), tj.int32)):
        r = tj.concat([r, x], 0)
    return r


def test_shapes_of_branches_name_the_variable_and_its_line():
    text = message(in_branches, ShapeError)
    assert f"'r' (set at {line(in_branches, 2)}) has shape (3, 4) in one branch and (4,) in the other" in text
    assert "remedy: let both branches give one shape" in text


@pytest.mark.parametrize(("f", "name", "at"), [(in_a_step, "x", 2), (in_a_counted_loop, "r", 3)])
def test_shapes_of_loops_name_the_variable_and_its_line(f, name, at):
    text = message(f, ShapeError)
    assert f"{name!r} (set at {line(f, at)}) has shape (3, 4) before a step of the loop and (6, 4) after it" in text
    assert "remedy: let it keep its shape" in text


def test_what_has_no_name_is_told_by_what_it_is():
    text = message(lambda x: x if tj.reduce_sum(x) > 0.0 else x[0], ShapeError)
    assert "the expression has shape (3, 4) in one branch and (4,) in the other" in text
    text = message(lambda x: tj.cond(tj.reduce_sum(x) > 0.0, lambda: x, lambda: x[0]), ShapeError)
    assert "the branches give shapes (3, 4) and (4,)" in text
    grow = lambda a: [tj.concat([a, a], 0)]  # noqa: E731
    text = message(lambda x: tj.while_loop(lambda a: tj.reduce_sum(a) < 99.0, grow, [x]), ShapeError)
    assert "value 0 of the loop's state has shape (3, 4) before a step" in text


def keys_in_branches(x):
    d = {"a": x}
    if tj.reduce_sum(x) > 0.0:
        d["b"] = None  # as if it were not there
    return d


def keys_in_a_step(x):
    d = {"a": x}
    while tj.reduce_sum(d["a"]) < 100.0:
        d["a"] = d["a"] * 2.0
        d["k"] = None
    return d


@pytest.mark.parametrize(("f", "keys"), [(keys_in_branches, "'a', 'b'"), (keys_in_a_step, "'a', 'k'")])
def test_dicts_with_other_keys_say_which(f, keys):
    text = message(f, ConversionError)
    assert "the keys 'a'" in text
    assert f"the keys {keys}" in text
    assert "remedy: set the same keys there, and before a loop" in text
