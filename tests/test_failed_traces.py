"""A trace that fails, wherever it does, leaves the user's objects and containers as they were."""

from collections import OrderedDict, defaultdict, deque

import pytest

import tracejit as tj
from tracejit.errors import ConversionError
from tracejit.tracing import Trace

TOTAL = 0.0


class State:
    def __init__(self):
        self.grid, self.log, self.n = [[1.0, 2.0], [3.0, 4.0]], [], 0
        self.table = {"k": [1.0], "m": {"n": 0.0}}
        self.seen, self.last = {1, 2}, deque([1.0, 2.0], 3)
        self.counts, self.order = defaultdict(int), OrderedDict(a=1, b=2)


def branches(s, x):
    global TOTAL
    if x < 0:
        s.grid.append([x, x])
        s.grid[-1][0] = 1.0
        s.table["k"] += [x]
    elif x < 5:
        s.grid[0][1] = x
        s.table["m"]["n"] += x
        s.log.append(x)
        TOTAL = TOTAL + x
    else:
        s.n += 1
        del s.table["k"]
    s.log.append(x * 2)
    s.table["z"] = [x, {"deep": x}]
    return x * 3 + 1


def loops(s, x):
    for i in range(3):
        if x > i:
            s.log.append(x + i)
            s.n = s.n + x
        s.grid[i % 2][0] = x * i
    while x < 10:
        x = x * 2 + 1
        s.log.append(x)
        if x > 5:
            s.log.pop()
        s.table["m"]["n"] = x
    return x + 1


def methods(s, x):
    s.log.extend([x, x + 1])
    s.grid.insert(0, s.log)
    s.seen.add(3)
    s.last.append(x * 2)
    s.counts["new"] += 1
    s.order.move_to_end("a")
    s.table.setdefault("q", []).append(x)
    s.table.pop("m")
    if x > 0:
        s.log.clear()
        s.last.appendleft(x + 2)
        s.made = [x]
    else:
        s.log[:] = [x * 4]
        s.counts["other"] += 2
    s.grid.reverse()
    s.grid[1], s.grid[2] = s.grid[2], s.grid[1]
    return x + len(s.log)


def inner_functions(s, x):
    count = 0

    def push(value):
        nonlocal count
        count += 1
        s.log.append(value)
        s.n += count

    for v in (x, x + 1, x + 2):
        if v > 0:
            push(v)
        else:
            s.log = s.log + [v]
    return x * count


def picture(x, seen):
    """Everything that can be reached, with what is the same object as what."""
    if id(x) in seen:
        return seen[id(x)]
    if isinstance(x, (dict, list, set, deque, tuple, State)):
        seen[id(x)] = f"#{len(seen)}"
        inside = vars(x) if isinstance(x, State) else x
        items = list(inside.items()) if isinstance(inside, dict) else [(None, y) for y in inside]
        return type(x).__name__, id(x), [(k, picture(y, seen)) for k, y in items]
    return type(x).__name__, id(x) if isinstance(x, tj.Tensor) else x


class Stopped(Exception):
    """An error of the user's."""


@pytest.mark.parametrize("kind", [ConversionError, KeyboardInterrupt, Stopped], ids=lambda k: k.__name__)
@pytest.mark.parametrize("f", [branches, loops, methods, inner_functions], ids=lambda f: f.__name__)
def test_wherever_it_fails(f, kind, monkeypatch):
    evaluate = Trace.evaluate
    ends = done = 0

    def failing(self, *args):
        nonlocal done
        done += 1
        if done == ends:
            raise kind("here")
        return evaluate(self, *args)

    monkeypatch.setattr(Trace, "evaluate", failing)
    stopped = 0
    for ends in [*range(1, 40), *range(40, 400, 7)]:
        s, done = State(), 0
        before = picture(s, {}), TOTAL
        try:
            tj.function(f, strict=True)(s, tj.constant(1.0))
        except (kind, ConversionError):
            assert (picture(s, {}), TOTAL) == before, f"at operation {ends}"
            stopped += done >= ends
        if done < ends:
            break
    assert stopped > 4  # an error of the user's in a branch that is not taken is none
