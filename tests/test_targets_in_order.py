"""Targets of one assignment get their values from left to right, and each is looked up when its turn comes."""

import random
from importlib import util

import pytest

import tracejit as tj


class Cell:
    def __init__(self, value, behind=None):
        self.value, self.behind = value, behind


def cells():
    return Cell(1.0, Cell(2.0, Cell(3.0)))


def an_attribute(x):
    first = c = cells()
    c.value, c = x, c.behind
    return first.value, c.value


def a_list_turned_round(x):
    before, c = None, cells()
    while c is not None:
        c.behind, before, c = before, c, c.behind
    return before.value, before.behind.value, before.behind.behind.value * x


def an_item(x):
    d, e = {"a": 1.0}, {"b": 2.0}
    d["n"], d = x, e
    return d


def a_position(x):
    i, a = 0, [2, 0, 1]
    a[i], i = i, a[i]
    return a, i, x


def the_rest(x):
    i, a = 0, [2.0, 0.0, 1.0]
    (a[i], *r), i = (x, 3.0, 4.0), 1
    return a, r, i


def rows(x):
    a, i = [0.0, 0.0, 0.0], 0
    for a[i], i in [(x, 1), (2.0, 2), (3.0, 0)]:
        pass
    return a


def in_a_branch(x):
    i, a = 0, [2.0, 0.0, 1.0]
    if x > 0:
        a[i], i = x, 1
    a[i], i = a[i] + x, 2
    return a, i


def several_targets(x):
    a, b = [0.0, 0.0], [0.0, 0.0]
    i = 0
    a[i], i = b[i], j = x, 1
    return a, b, i, j


def deleted(x):
    seen, d = [], {"a": 1.0, "b": 2.0, "c": 3.0}

    def key(k):
        seen.append(len(d))
        return k

    y = z = x
    del d[key("a")], y, d[key("b")], z
    return seen, d


FUNCTIONS = [f for f in list(globals().values()) if getattr(f, "__code__", None) and f.__module__ == __name__]
FUNCTIONS.remove(cells)


def numbers(v):
    if isinstance(v, dict):
        return {k: numbers(w) for k, w in v.items()}
    return [numbers(w) for w in v] if isinstance(v, (list, tuple)) else float(v)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_as_in_plain_python(f):
    traced = tj.function(f, strict=True)
    for x in (7.0, -7.0, 2.0):
        assert numbers(traced(tj.constant(x))) == numbers(f(tj.constant(x)))
        with tj.debug():
            assert numbers(traced(tj.constant(x))) == numbers(f(tj.constant(x)))


def test_items_of_tensors():
    @tj.function
    def f(x):
        i, r = tj.constant(0), tj.zeros([4])
        while i < 3:
            r[i], i = x, i + 1
        return r

    assert f(tj.constant(7.0)).numpy().tolist() == [7.0, 7.0, 7.0, 0.0]


TARGETS = ["i", "j", "a[i]", "a[j]", "b[i]", "a", "b", "o", "p", "o.v", "p.v", "o.v[i]", "d['k']", "(i, a[i])"]
VALUES = {
    "i": ["0", "1", "j", "2 - i"], "a": ["b", "[x, 5.0, 6.0]", "o.v", "a[:]"], "o": ["p", "o"],
    "x": ["x", "x * 2.0", "a[i]", "b[j]", "3.0", "d['k']"],
}  # fmt: skip


def value_of(target, rng):
    if target.startswith("("):
        return f"({rng.choice(VALUES['i'])}, {rng.choice(VALUES['x'])})"
    kind = {"i": "i", "j": "i", "a": "a", "b": "a", "o": "o", "p": "o", "o.v": "a", "p.v": "a"}.get(target, "x")
    return rng.choice(VALUES[kind])


def program(seed):
    rng = random.Random(seed)
    lines = [f"def f{seed}(x):", "    i, j, a, b, d = 0, 1, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0], {'k': 7.0, 'l': 8.0}"]
    lines += ["    o, p = Cell([0.0, 1.0, 2.0]), Cell([3.0, 4.0, 5.0])", "    o.v, p.v = o.value, p.value"]
    for _ in range(3):
        targets = rng.choices(TARGETS, k=rng.randint(2, 4))
        lines.append(f"    {', '.join(targets)} = {', '.join(value_of(t, rng) for t in targets)}")
    return "\n".join([*lines, "    return i, j, a, b, d, o.v, p.v, o is p, a is b"])


def test_random_targets(tmp_path):
    path = tmp_path / "targets_in_order.py"
    path.write_text("\n\n\n".join(["from types import SimpleNamespace", CELL, *map(program, range(60))]))
    spec = util.spec_from_file_location(path.stem, path)
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for seed in range(60):
        f = getattr(module, f"f{seed}")
        got, want = tj.function(f, strict=True)(tj.constant(9.0)), f(tj.constant(9.0))
        assert numbers(got) == numbers(want), program(seed)


CELL = """class Cell:
    def __init__(self, value):
        self.value = value
"""
