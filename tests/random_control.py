"""Random nested control flow as Python source: branches and loops that end, over a few floats and a counter."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tracejit as tj

FLOATS = ("x", "y", "z")
RESULT = "x, y, z, k"
# all of them keep the floats small; no two give values that are equal but for rounding
ASSIGNMENTS = (
    "{a} = tj.tanh({b} + {c} * 0.7)", "{a} = {a} * 0.6 + {b} * 0.3", "{a} = tj.sin({b}) - 0.31",
    "{a} = {b} * {c} * 0.4", "{a} = 1.1 - {a}", "{a} = tj.where({b} > 0.21, {c} * 0.9, {a} + 0.05) * 0.8",
    "{a}, {b} = {b} * 0.9, {a} * 0.8", "{a} = tj.minimum({b}, {c} + 0.17) * 0.9", "{a} = {a} * 0.5 + 0.05 * k",
    "k = k + 1", "k = (k * 2 + 1) % 7", "k = k - n % 3", "{a} = {b} * 0.7 if {c} > 0.13 else {a} - 0.11",
    "{a} = helper({b}, k)", "{a} = {a} * 0.7 + v[k % 3]", "total['{a}'] = {b} * 0.9", "{a} = total['{a}'] * 0.8",
    "seen.append({b} * 0.5)", "{a} = seen[0] + 0.02 * {b}",
)  # fmt: skip
PRINTS = (
    "print('{a} is', f'{{{a}:.4f}}')", "print(k, flag)", "print({b} > {c} + 0.013, k * 2)", "print('here')",
)  # fmt: skip
TESTS = (
    "{a} > 0.113", "{a} < {b} + 0.071", "-0.43 < {a} < 0.57", "k % 2 == 0", "k > n", "{a} > 0.19 and {b} < 0.41",
    "{a} < -0.23 or k == 2", "not {a} > {b} * 0.5 + 0.037", "{a} > 0.83 or {b} < {c} - 0.29 and k < 4", "k in (1, 3)",
    "tj.reduce_any(v > {a} + 0.017)", "flag", "True if {a} > 0.77 else k < 2",
)  # fmt: skip
HEADS = (
    "for {i} in tj.range(n % 4):", "for {i} in range(3):", "for {i} in range(n):", "for {i} in v:",
    "for {i}, {i}b in enumerate(v * {a}):", "for {i} in (0.5, 1.5):",
)  # fmt: skip
STACKS = (
    "stack.append({b} * 0.6)", "stack.append({a} - 0.2)", "{a} = stack.pop() if stack else {a} * 0.7",
    "{a} = stack[-1] * 0.9 if len(stack) > 1 else {b}", "k = k + len(stack)", "stack.insert(0, {a} * 0.4)",
    "count({b})", "{a} = count({b} * 0.9) * 0.1", "k = k + (lambda p: p if k > 1 else 2)(k % 3)",
)  # fmt: skip
HELPER = """\
def helper(p, q):
    if p > 0.33:
        return p * 0.7 - 0.1
    while q < 3:
        p = p * 0.8 + 0.09
        q = q + 1
        if p > 0.44:
            break
    return p


"""


WIDE = """\
stack, counted = [x * 0.5], 0.0
def count(p):
    nonlocal counted
    if p > 0.2:
        counted = counted + 0.1
    else:
        counted = counted * 0.5
        return p
    return p * 0.0 + counted
"""


class Writer:
    """Draws one function, line by line; with lines that print if it is to. `wide`: with stacks, `try`, `with`, `match`
    and functions in it that change its variables."""

    def __init__(self, rng: random.Random, budget: int, prints: bool, wide: bool = False) -> None:
        self.rng, self.budget, self.loops, self.wide = rng, budget, 0, wide
        self.assignments = ASSIGNMENTS + PRINTS * 2 * prints + STACKS * 2 * wide
        self.lines: list[str] = []

    def pick(self, options: Sequence[str]) -> str:
        return self.rng.choice(options)

    def one_in(self, n: int) -> bool:
        return self.rng.randrange(n) == 0

    def fill(self, text: str, **more: str) -> str:
        return text.format(**dict(zip("abc", self.rng.sample(FLOATS, 3))) | more)

    def test(self) -> str:
        return self.fill(self.pick(TESTS))

    def emit(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)
        self.budget -= 1

    def block(self, depth: int, inside: bool) -> None:
        for _ in range(self.rng.randint(1, 3)):
            if self.budget <= 0:
                break
            self.statement(depth, inside)
        self.emit(depth, self.fill(self.pick(ASSIGNMENTS[:8])))

    def statement(self, depth: int, inside: bool) -> None:
        kinds = ["assign"] * 3
        if depth < 4:
            kinds += ["if", "if", "while", "for"]
            kinds += ["try", "with", "def", "match", "drain"] * self.wide
        kinds += ["leave"] if inside else ["return"] if depth > 1 else []
        getattr(self, "_" + self.pick(kinds))(depth, inside)

    def _assign(self, depth: int, inside: bool) -> None:
        self.emit(depth, self.fill(self.pick(self.assignments)))
        if self.one_in(5):
            self.emit(depth, f"flag = {self.test()}")

    def _if(self, depth: int, inside: bool) -> None:
        self.emit(depth, f"if {self.test()}:")
        self.block(depth + 1, inside)
        if self.one_in(2):
            self.emit(depth, self.pick(("else:", f"elif {self.test()}:")))
            self.block(depth + 1, inside)

    def _while(self, depth: int, inside: bool) -> None:
        i, bound = self.counter(), self.rng.randint(1, 5)
        self.emit(depth, f"{i} = 0")
        endless = self.one_in(3)
        self.emit(depth, "while True:" if endless else f"while {i} < {bound} and ({self.test()}):")
        self.emit(depth + 1, f"{i} += 1")
        if endless:
            self.emit(depth + 1, f"if {i} > {bound} or {self.fill('{a} > 0.61')}:")
            self.emit(depth + 2, self.pick(("break", "break", f"return {RESULT}")))
        self.body(depth, not endless)

    def _try(self, depth: int, inside: bool) -> None:
        self.emit(depth, "try:")
        self.block(depth + 1, inside)
        if self.one_in(3):
            self.emit(depth, "except ZeroDivisionError:")
            self.emit(depth + 1, "k = 3")
            if self.one_in(2):
                self.emit(depth, "else:")
                self.emit(depth + 1, self.fill(self.pick(ASSIGNMENTS[:8])))
        self.emit(depth, "finally:")
        self.emit(depth + 1, self.fill(self.pick(ASSIGNMENTS[:8])))
        if inside and self.one_in(4):
            self.emit(depth + 1, f"if {self.test()}:")
            self.emit(depth + 2, self.pick(("break", "continue")))

    def _with(self, depth: int, inside: bool) -> None:
        self.emit(depth, self.pick(("with nullcontext():", "with suppress(KeyError):", "with nullcontext(k) as k:")))
        self.block(depth + 1, inside)

    def _def(self, depth: int, inside: bool) -> None:
        name, changed = f"f{self.counter()}", self.pick(FLOATS)
        self.emit(depth, f"def {name}(p):")
        self.emit(depth + 1, f"nonlocal {changed}, k")
        self.emit(depth + 1, f"if p > {self.rng.randint(-3, 5) / 10}:")
        self.emit(depth + 2, f"{changed} = {changed} * 0.7 + p * 0.2")
        self.emit(depth + 2, self.pick(("return", "k = k + 1", "return")))
        self.emit(depth + 1, f"{changed} = {changed} * 0.8")
        for _ in range(2):
            self.emit(depth, self.fill(name + "({b} * 0.9)"))

    def _match(self, depth: int, inside: bool) -> None:
        self.emit(depth, f"match {self.pick(('k % 3', 'n', '(k, flag)'))}:")
        for case in (self.pick(("0", "1 | 2", "(0, True)")), "_"):
            self.emit(depth + 1, f"case {case}:")
            self.block(depth + 2, inside)

    def _drain(self, depth: int, inside: bool) -> None:
        i, a = self.counter(), self.pick(FLOATS)
        self.emit(depth, f"{i} = 0")
        self.emit(depth, f"while stack and {i} < {self.rng.randint(2, 9)}:")
        self.emit(depth + 1, f"{i} += 1")
        self.emit(depth + 1, f"{a} = {a} * 0.6 + stack.pop({self.pick(('', '', '0'))}) * 0.3")
        self.body(depth, True)

    def _for(self, depth: int, inside: bool) -> None:
        i = self.counter()
        self.emit(depth, self.fill(self.pick(HEADS), i=i))
        if self.one_in(2):
            self.emit(depth + 1, self.fill("{a} = {a} * 0.8 + 0.03 * {i}", i=i))
        self.body(depth, True)

    def body(self, depth: int, may_have_else: bool) -> None:
        self.block(depth + 1, True)
        if may_have_else and self.one_in(4):
            self.emit(depth, "else:")
            self.emit(depth + 1, self.fill(self.pick(ASSIGNMENTS[:8])))

    def _leave(self, depth: int, inside: bool) -> None:
        self.emit(depth, f"if {self.test()}:")
        self.emit(depth + 1, self.pick(("break", "continue", f"return {RESULT}")))

    def _return(self, depth: int, inside: bool) -> None:
        self.emit(depth, f"if {self.test()}:")
        self.emit(depth + 1, f"return {RESULT}")

    def counter(self) -> str:
        self.loops += 1
        return f"i{self.loops}"


@dataclass(frozen=True)
class ControlProgram:
    source: str

    def function(self, folder: Path) -> Callable[..., Any]:
        """The function, from a file, so that its text can be found."""
        path = folder / f"program_{zlib.crc32(self.source.encode()):08x}.py"
        path.write_text(self.source)
        space: dict[str, Any] = {"tj": tj}
        exec(compile(self.source, str(path), "exec"), space)
        return space["program"]

    def draws(self, count: int) -> list[list[np.ndarray]]:
        """Arguments x, y: real; v: three reals; n: an integer."""
        rng = np.random.default_rng(len(self.source))
        reals = [(rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(-1, 1, 3)) for _ in range(count)]
        return [[np.asarray(x), np.asarray(y), v, np.asarray(k % 5, np.int32)] for k, (x, y, v) in enumerate(reals)]


def control_program(
    seed: int | random.Random, size: int, prints: bool = False, wide: bool = False
) -> ControlProgram:  # fmt: skip
    w = Writer(seed if isinstance(seed, random.Random) else random.Random(seed), size, prints, wide)
    for line in ("z, k, flag = x * y, 0, x > 0.07", "total, seen = {'x': x, 'y': y, 'z': z}, [x - y]"):
        w.emit(1, line)
    for line in WIDE.splitlines() if wide else ():
        w.lines.append("    " + line)
    w.budget = size
    while w.budget > 0:
        w.statement(1, False)
    w.emit(1, f"return {RESULT}")
    head = "from contextlib import nullcontext, suppress\n\n\n" if wide else ""
    return ControlProgram(head + HELPER + "def program(x, y, v, n):\n" + "\n".join(w.lines) + "\n")
