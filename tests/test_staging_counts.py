"""How often branches and steps are traced: not twice as often with each one that is around another."""

import types

import pytest

import tracejit as tj
from tracejit.ops import regions


@pytest.fixture
def staged(monkeypatch):
    """How many regions are traced."""
    count = [0]
    init = regions.Region.__init__

    def counted(self, *args):
        count[0] += 1
        init(self, *args)

    monkeypatch.setattr(regions.Region, "__init__", counted)
    return count


def four(x, o):
    if x > 1.0:
        o.a = o.a + x
        if x > 2.0:
            o.b = o.b + x
            if x > 3.0:
                o.c = o.c + x
                if x > 4.0:
                    o.d = o.d + x
    return o.a + o.b


def eight(x, o):
    if x > 1.0:
        o.a = o.a + x
        if x > 2.0:
            o.b = o.b + x
            if x > 3.0:
                o.c = o.c + x
                if x > 4.0:
                    o.d = o.d + x
                    if x > 5.0:
                        o.e = o.e + x
                        if x > 6.0:
                            o.f = o.f + x
                            if x > 7.0:
                                o.g = o.g + x
                                if x > 8.0:
                                    o.h = o.h + x
    return o.a + o.b


def one_loop(x, o):
    while x < 8.0:
        o.a = o.a + x
        x = x * 2.0
    return x + o.a


def three_loops(x, o):
    while x < 8.0:
        o.a = o.a + x
        y = x
        while y < 8.0:
            o.b = o.b + y
            z = y
            while z < 8.0:
                o.c = o.c + z
                z = z * 2.0
            y = y * 2.0
        x = x * 2.0
    return x + o.a + o.b + o.c


def _regions(f, staged):
    outs = []
    for wrap in (lambda g: g, tj.function):
        o = types.SimpleNamespace(**{k: tj.constant(0.5) for k in "abcdefgh"})
        g, staged[0] = wrap(lambda x: f(x, o)), 0
        outs.append([float(g(tj.constant(x))) for x in (0.5, 3.5, 9.0)] + [float(v) for v in vars(o).values()])
    assert outs[0] == outs[1]
    return staged[0]


def test_branches_within_branches(staged):
    few = _regions(four, staged)
    assert _regions(eight, staged) <= 4 * few


def test_loops_within_loops(staged):
    few = _regions(one_loop, staged)
    assert _regions(three_loops, staged) <= 15 * few


class Counter:
    def __init__(self):
        self.n, self.last = 0, tj.constant(0.0)

    def add(self, x):
        if x > 1.0:
            self.n += 1
            if x > 2.0:
                self.last = x


def test_other_places_each_time(twins):
    """What a branch writes to may be other objects each time it is traced."""

    @twins
    def scene(wrap):
        many = [Counter() for _ in range(3)]
        d = {"n": 0}

        @wrap
        def f(x):
            for k, c in enumerate(many):
                if k != 1 or x > 0.0:
                    c.add(x * (k + 1.0))
                new = Counter()
                new.add(x)
                if x > 2.5:
                    d["n"] += new.n
                    many[0].n += 1
            for c in many[1:]:
                for _ in tj.range(2):
                    c.add(x)
                    if x > 3.0:
                        c.n += 10
            many[2].last = many[2].last + new.last
            return x + d["n"]

        out = []
        for x in (0.5, 1.5, 2.75, 4.0, 0.75):
            out.append([f(tj.constant(x)), [c.n for c in many], [c.last for c in many], d["n"]])
        return out
