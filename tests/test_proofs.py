"""Bounds of integers hold for all operands within theirs; checks are left out only where they cannot fail."""

import itertools

import numpy as np
import pytest

import tracejit as tj
from tracejit.intervals import all_of, fits, outcome
from tracejit.ir.op import OPS
from tracejit.ir.text import parse
from tracejit.ir.types import int8
from tracejit.passes.proofs import proven

NUMBERS = range(-5, 6)
INTERVALS = [(a, b) for a in NUMBERS for b in NUMBERS if a <= b]
TWO = ["add", "sub", "mul", "maximum", "minimum", "floordiv", "floormod", "bit_and", "bit_or", "bit_xor", "pow"]
SHIFTS = ["shift_left", "shift_right"]


def values(name, x, y):
    with np.errstate(all="ignore"):
        return OPS[name].numpy(np.int64(x), np.int64(y))


@pytest.mark.parametrize("name", [*TWO, *SHIFTS])
def test_bounds_hold_for_all_operands(name):
    grid = {(x, y): int(values(name, x, y)) for x in NUMBERS for y in NUMBERS if name not in SHIFTS + ["pow"] or y >= 0}
    for a, b in itertools.product(INTERVALS[::3], INTERVALS[::2]):
        found = outcome(name, [a, b])
        made = [r for (x, y), r in grid.items() if a[0] <= x <= a[1] and b[0] <= y <= b[1]]
        if made and found is not None:
            assert fits((min(made), max(made)), found), (name, a, b, found)


@pytest.mark.parametrize("name", ["neg", "abs", "bit_not", "square"])
def test_bounds_of_one_operand(name):
    for a in INTERVALS:
        found = outcome(name, [a])
        assert found is not None
        assert all(found[0] <= int(OPS[name].numpy(np.int64(x))) <= found[1] for x in range(a[0], a[1] + 1))


LOOP = """
graph g(%0: i8[], %1: i8[]):
  %2, %3 = while(%0, %1, body=@0, cond=@1, n=2) : (i8[], i8[])
    @0 graph body(%0: i8[], %1: i8[]):
{body}
    @1 graph cond(%0: i8[], %1: i8[]):
{cond}
  return %2, %3
"""
STEP = """      %2 = constant({step}) : i8[]
      %3 = cast(%0, dtype=i16) : i16[]
      %4 = cast(%2, dtype=i16) : i16[]
      %5 = {op}(%3, %4) : i16[]
      %6 = constant(127) : i16[]
      %7 = constant(-128) : i16[]
      %8 = less_equal(%5, %6) : bool[]
      %9 = greater_equal(%5, %7) : bool[]
      %10 = logical_and(%9, %8) : bool[]
      check(%10, error='DTypeError', message='too large')
      %11 = cast(%5, dtype=i8) : i8[]
      return %11, %1"""


def conditions(*lines):
    return "\n".join("      " + line for line in lines)


BELOW = conditions("%2 = less(%0, %1) : bool[]", "return %2")
CASES = {
    "up to a bound": (1, "add", BELOW, True),
    "down past it": (-1, "add", BELOW, False),
    "in steps of two": (2, "add", BELOW, False),
    "not beyond it": (1, "add", conditions("%2 = less_equal(%0, %1) : bool[]", "return %2"), False),
    "down to a bound": (1, "sub", conditions("%2 = greater(%0, %1) : bool[]", "return %2"), True),
    "until equal": (1, "add", conditions("%2 = not_equal(%0, %1) : bool[]", "return %2"), False),
    "in steps of two below a number": (
        2, "add", conditions("%2 = constant(126) : i8[]", "%3 = less(%0, %2) : bool[]", "return %3"), True,
    ),
    "in steps of three below it": (
        3, "add", conditions("%2 = constant(126) : i8[]", "%3 = less(%0, %2) : bool[]", "return %3"), False,
    ),
    "one of two conditions": (
        1, "add",
        conditions("%2 = less(%0, %1) : bool[]", "%3 = equal(%1, %1) : bool[]", "%4 = logical_and(%3, %2) : bool[]",
                   "return %4"),
        True,
    ),
    "either of two conditions": (
        1, "add",
        conditions("%2 = less(%0, %1) : bool[]", "%3 = equal(%1, %1) : bool[]", "%4 = logical_or(%3, %2) : bool[]",
                   "return %4"),
        False,
    ),
    "not the opposite": (
        1, "add",
        conditions("%2 = greater_equal(%0, %1) : bool[]", "%3 = logical_not(%2) : bool[]", "return %3"), True,
    ),
    "the next one below": (
        2, "add",
        conditions("%2 = constant(1) : i8[]", "%3 = cast(%0, dtype=i16) : i16[]", "%4 = cast(%2, dtype=i16) : i16[]",
                   "%5 = add(%3, %4) : i16[]", "%6 = cast(%1, dtype=i16) : i16[]", "%7 = less(%5, %6) : bool[]",
                   "return %7"),
        True,
    ),
    "the next one below, which may wrap around": (
        2, "add",
        conditions("%2 = constant(1) : i8[]", "%3 = add(%0, %2) : i8[]", "%4 = less(%3, %1) : bool[]", "return %4"),
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_checks_of_counters(name):
    """A check that goes never fails; one that may fail for some numbers stays."""
    step, op, cond, holds = CASES[name]
    g = parse(LOOP.format(body=STEP.format(step=step, op=op), cond=cond))
    assert ("check(" not in str(proven(g))) == holds
    fails = False
    for start, bound in itertools.product(range(-128, 128, 15), (-128, -5, 0, 77, 125, 126, 127)):
        try:
            want = g.run([np.int8(start), np.int8(bound)])
        except tj.errors.DTypeError:
            fails = True
        else:
            assert proven(g).run([np.int8(start), np.int8(bound)]) == want
    assert not (fails and holds)
    assert all_of(int8) == (-128, 127)


def test_a_check_proves_those_behind_it():
    @tj.function
    def f(x, i):
        if i >= 0:
            return x[i] + x[i] * x[i + 1]
        return x[0]

    x = tj.constant(np.arange(4.0))
    assert float(f(x, tj.constant(1))) == 3.0
    text = str(f.graph(x, tj.constant(1), stage="optimized"))
    assert text.count("check(") == 2  # of i and of i + 1


def test_a_branch_knows_its_condition():
    @tj.function
    def f(x, i):
        s = x[0]
        if i >= 0:
            if i < 4:
                s = s + x[i]
        return s

    x = tj.constant(np.arange(1.0, 5.0))
    assert [float(f(x, tj.constant(i))) for i in (-7, 0, 3, 4)] == [1.0, 2.0, 5.0, 1.0]
    assert "check(" not in str(f.graph(x, tj.constant(1), stage="optimized"))
