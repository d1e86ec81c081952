"""Random programs over lists and dicts that stand in several places: attributes, items, globals, arguments, results.

What a call leaves behind is compared as a picture: the numbers, and which containers are one.
"""

from __future__ import annotations

import random
import sys
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

import tracejit as tj

# places that hold a list of numbers, and such that may be assigned one
LISTS = (
    "a", "b", "s.l", "s.m", "G", "p", "s.g[0]", "s.g[1]", "s.d['q']", "s.t[0]", "u['v']", "H['h']",
)  # fmt: skip
TARGETS = (
    "a", "b", "s.l", "s.m", "s.g[0]", "s.g[1]", "s.d['q']", "u['v']", "H['h']", "G", "r",
)  # fmt: skip
VALUES = (
    "x", "y", "x * 0.5", "1.5", "s.n", "y - 0.25", "first(a)", "first(s.l)", "len(s.l) * 0.5", "total(b)", "s.d['n']",
    "total(p)", "float(s.l is s.m)", "len(G) * 1.0", "c * 0.5",
)  # fmt: skip
CHANGES = (
    "{l}.append({v})", "{l}.append({v})", "{l}.append({v})", "{l}[0] = {v}", "{l}.insert(0, {v})",
    "{l}.extend([{v}, {w}])", "{l}[-1] = {v}", "{t} += [{v}]", "{l}.reverse()", "{t} = {l}", "{t} = {l}", "{t} = {l}",
    "{t} = [{v}, {w}]", "{t} = {l} + [{v}]", "{t} = list({l})", "{t}, {t2} = {l2}, {l}", "s.n = {v}",
    "s.d['n'] = {v}", "x = x * 0.5 + {v} * 0.1", "y = y - {v} * 0.2", "if len({l}) > 1: {l}.pop()",
    "if len({l}) > 2: del {l}[1]", "s.t = ({l}, {v})", "s.d = dict(s.d)", "s.d = {{'n': {v}, 'q': {l}}}",
    "u = {{'v': {l}, 'w': {v}}}", "s.g = [{l}, {l2}]", "s.g.append({l})", "s.g.reverse()", "s.o = o", "o = s.o",
    "o.z = {l}", "o.z.append({v})", "s.o.z = {t}", "u['k'] = {v}", "c = c + 1.0 if {l} is {l2} else c",
    "put({l}, {v})", "{t} = other({l}, {l2}, {v})", "s.add({v})", "c = c + len({l})", "{t} = {l} if {test} else {l2}",
    "r = [{l}, {l2}]", "o = s.o if {test} else o", "o = Other()", "s.o, o = o, s.o", "o.z = o.z + [{v}]",
    "s.q.append({v})", "s.k.add(len({l}))", "{t} = list(s.q)", "s.q = deque({l})", "e = e._replace(z={l})",
    "e.z.append({v})", "{t} = e.z", "e = s.e", "s.e = e", "s.f.z = {l}", "f = s.f", "f.z.append({v})",
    "f = Item({l})",
)  # fmt: skip
TESTS = (
    "x > 0.1", "y < 0.2", "x > y", "x + y > 0.3", "c > 1.5", "total({l}) > 0.4", "{l} is {l2}", "len({l}) > 2",
    "x > 5.0", "first({l}) > x", "not x > 0.4", "x < 0 and y > -0.3",
)  # fmt: skip
RESULTS = (
    "x", "x, y", "a", "a, b", "(a, a)", "[a, s.l]", "{'a': a, 'l': s.l, 'x': x}", "a, [x, y]", "s.g", "u", "r",
    "(r, b, x)", "p, a", "s.t",
)  # fmt: skip
HEAD = """\
from collections import deque, namedtuple
from dataclasses import dataclass

Entry = namedtuple("Entry", "z w")


@dataclass
class Item:
    z: list


class Other:
    def __init__(self):
        self.z = []


class S:
    def __init__(self):
        self.l, self.m, self.n, self.g = [1.0], [2.0, 3.0], 0.5, [[4.0], [5.0]]
        self.d, self.o = {'q': [6.0], 'n': 0.75}, Other()
        self.t, self.q, self.k = (self.m, 0.25), deque([0.5]), {1}
        self.e, self.f = Entry([9.0], 1.0), Item([10.0])

    def add(self, v):
        if v > 0.3:
            self.l.append(v)
        else:
            self.m = self.m + [v]


s, G, H = S(), [7.0], {'h': [8.0]}


def first(z):
    return z[0] if z else 0.0


def total(z):
    n = 0.0
    for q in z:
        n = n + q
    return n


def put(z, v):
    if v > 0.2:
        z.append(v)


def other(z, w, v):
    if v > 0.1:
        return z
    return w


def step(x, y, n, p):
    global G
    a, b, c, r, o = [x], [y, 0.5], 0.0, [0.0], Other()
    u, e, f = {'v': b}, Entry(a, x), Item(b)
"""
DRAWS = ("s.l", "s.m", "G", "s.g[0]", "new", "new", "new", "kept")  # what the calls give as `p`


class Writer:
    """Draws one function, line by line."""

    def __init__(self, rng: random.Random, budget: int) -> None:
        self.rng, self.budget, self.loops = rng, budget, 0
        self.lines: list[str] = []
        self.result = rng.choice(RESULTS)

    def fill(self, text: str) -> str:
        pick = self.rng.choice
        lists = self.rng.sample(LISTS, 2)
        targets = self.rng.sample(TARGETS, 2)
        test = pick(TESTS).format(l=pick(LISTS), l2=pick(LISTS))
        return text.format(
            l=lists[0], l2=lists[1], t=targets[0], t2=targets[1], v=pick(VALUES), w=pick(VALUES), test=test
        )

    def emit(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + self.fill(text))
        self.budget -= 1

    def block(self, depth: int, inside: bool) -> None:
        for _ in range(self.rng.randint(1, 3)):
            self.statement(depth, inside)

    def statement(self, depth: int, inside: bool) -> None:
        kinds = ["change"] * 5 + ["if", "if", "loop"] * (depth < 4 and self.budget > 0)
        kinds += ["leave"] * inside + ["back"] * (depth in (2, 3))
        kind = self.rng.choice(kinds)
        if kind == "change":
            self.emit(depth, self.rng.choice(CHANGES))
        elif kind == "if":
            self.emit(depth, "if {test}:")
            self.block(depth + 1, inside)
            if self.rng.randrange(2):
                self.emit(depth, "else:")
                self.block(depth + 1, inside)
        elif kind == "loop":
            self.loops += 1
            i = f"i{self.loops}"
            heads = (f"for {i} in tj.range(n):", f"for {i} in range(2):", f"for {i} in range(n):")
            self.emit(depth, self.rng.choice(heads))
            self.block(depth + 1, True)
        elif kind == "leave":
            self.emit(depth, "if {test}:")
            self.emit(depth + 1, self.rng.choice(("break", "continue")))
        else:
            self.emit(depth, "if {test}:")
            other = self.rng.randrange(4) == 0
            self.lines.append("    " * (depth + 1) + f"return {self.rng.choice(RESULTS) if other else self.result}")


@dataclass(frozen=True)
class Program:
    source: str

    def space(self, folder: Path) -> dict[str, Any]:
        """The names of the program, anew, from a file, so that its text can be found."""
        path = folder / f"containers_{zlib.crc32(self.source.encode()):08x}.py"
        path.write_text(self.source)
        module = sys.modules[path.stem] = ModuleType(path.stem)  # where the dataclass looks for it
        space = vars(module)
        space["tj"] = tj
        exec(compile(self.source, str(path), "exec"), space)
        return space


def container_program(seed: int, size: int) -> Program:
    w = Writer(random.Random(seed), size)
    while w.budget > 0:
        w.statement(1, False)
    w.lines.append(f"    return {w.result}")
    return Program(HEAD + "\n".join(w.lines) + "\n")


def draws(seed: int, count: int) -> list[tuple[float, float, int, str]]:
    """The arguments x, y, n of the calls, and what is given as `p`."""
    rng = random.Random(seed + 10**6)
    few = rng.sample(DRAWS, 2)
    return [
        (round(rng.uniform(-1, 1), 3), round(rng.uniform(-1, 1), 3), rng.randrange(4), rng.choice(few))
        for _ in range(count)
    ]


def calls(
    space: dict[str, Any], step: Callable[..., Any], given: Sequence[tuple[float, float, int, str]]
) -> list[Any]:
    """What calls give and leave behind."""
    kept: list[Any] = [0.5]
    out = []
    for x, y, n, what in given:
        p = {"new": lambda: [0.25, 1.25], "kept": lambda: kept}.get(what, lambda what=what: eval(what, space))()
        args = tj.constant(x, tj.float64), tj.constant(y, tj.float64), tj.constant(n, tj.int32), p
        try:
            got: Any = step(*args)
        except Exception as e:  # of Python's own classes there is one in both
            got = next(c for c in type(e).__mro__ if c.__module__ == "builtins").__name__
        out.append(picture([got, p, kept, space["s"], space["G"], space["H"]]))
    return out


def picture(x: Any, seen: dict[int, int] | None = None) -> Any:
    """The numbers in an object and in what it holds; containers and objects that came before, by their number."""
    seen = {} if seen is None else seen
    if isinstance(x, (list, dict, deque)) or type(x).__name__ in ("S", "Other", "Item"):
        if id(x) in seen:
            return f"#{seen[id(x)]}"
        seen[id(x)] = len(seen)
        if isinstance(x, (list, deque)):
            return [picture(y, seen) for y in x]
        items = x if isinstance(x, dict) else vars(x)
        return {k: picture(items[k], seen) for k in sorted(items)}
    if isinstance(x, tuple):
        return ("tuple", *[picture(y, seen) for y in x])
    if isinstance(x, (str, set)):
        return x if isinstance(x, str) else sorted(x)
    return round(float(np.asarray(x)), 9)


def outcomes(program: Program, folder: Path, given: Sequence[Any]) -> SimpleNamespace:
    """What the program does as plain Python, and traced."""
    plain, traced = program.space(folder), program.space(folder)
    want = calls(plain, plain["step"], given)
    return SimpleNamespace(want=want, got=calls(traced, tj.function(traced["step"]), given))
