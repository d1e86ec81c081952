"""Truth: `and`, `or`, `not` and comparisons, of which tensors may decide the outcome."""

from __future__ import annotations

import builtins
import collections
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tracejit.autograph import arrays, backcalls, dicts, growing, places, reads, specials
from tracejit.autograph.branches import Part, asks, decided, if_exp, traced
from tracejit.autograph.chosen import Chosen
from tracejit.autograph.insides import HOLDING, ORDER
from tracejit.autograph.owners import is_users
from tracejit.autograph.values import Optional
from tracejit.context import context
from tracejit.errors import TracedValueError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ir.types import bool_
from tracejit.operand import asks_which
from tracejit.ops.found import as_number
from tracejit.ops.host import python_kind
from tracejit.ops.regions import as_test
from tracejit.tensor import Operand


def and_(first: Part, *rest: Part) -> Any:
    x = first()
    for i, f in enumerate(rest):
        go = decided(x)
        if traced(go):
            return if_exp(go, lambda f=f, i=i: and_(f, *rest[i + 1 :]), lambda x=x: x)  # type: ignore[misc]
        if not go:
            return x
        x = f()
    return x


def or_(first: Part, *rest: Part) -> Any:
    x = first()
    for i, f in enumerate(rest):
        go = decided(x)
        if traced(go):
            there = x.value if type(x) is Optional and x.none else x
            return if_exp(go, lambda x=there: x, lambda f=f, i=i: or_(f, *rest[i + 1 :]))  # type: ignore[misc]
        if go:
            return x
        x = f()
    return x


def not_(x: Any) -> Any:
    x = decided(x)
    if not traced(x):
        return not x
    made = OPS["logical_not"](as_test(x))
    return OPS["cast"](made, dtype=bool_, weak=True) if python_kind(x) is not None else made


def none_of(*flags: Any) -> Any:
    """Whether no flag is set."""
    known = [x for x in flags if not traced(x)]
    if any(known):
        return False
    rest = [as_test(x) for x in flags if traced(x)]
    if not rest:
        return True
    return OPS["logical_not"](functools.reduce(lambda a, b: OPS["logical_or"](a, b), rest))


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda a, b: _equal(a, b), "!=": lambda a, b: _different(a, b), "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "is": lambda a, b: is_one(a, b),
    "is not": lambda a, b: not_(is_one(a, b)), "in": lambda a, b: is_in(a, b), "not in": lambda a, b: not_(is_in(a, b)),
}  # fmt: skip


def is_one(a: Any, b: Any) -> Any:
    for x, y in ((a, b), (b, a)):
        if type(x) is Optional and x.none and y is None:
            return OPS["logical_not"](x.flag)
    if (listener := places.listener()) is not None:
        listener.compared(a, b)
        if a is not b and isinstance(a, Operand) and isinstance(b, Operand):
            asks_which(a)
            asks_which(b)
    return a is b


_GONE_THROUGH: tuple[type, ...] = (*HOLDING, collections.deque, type({}.keys()), type({}.values()))


def is_in(x: Any, container: Any) -> Any:
    if is_users(type(container)) and (answer := asks["contains"](container, x)) is not NotImplemented:
        return answer
    container = asks["looked_through"](container)
    if isinstance(container, Operand):
        hit = OPS["equal"](container, x)
        return OPS["reduce_any"](hit, axis=tuple(range(len(hit.shape))))
    if growing.is_grown(container):
        return asks["listed"](growing.rows_of(container), x)
    reads.contains(container, x)
    if growing.is_partial(container):
        return dicts.contains(container, x)
    if isinstance(container, (list, tuple, set, frozenset, builtins.range)) and (
        traced(x) or (context.trace is not None and any(isinstance(y, Operand) for y in (x, *container)))
    ):
        found: Any = False
        if isinstance(container, (set, frozenset)):
            if _is_hashed_by_itself(x):
                return x in container
            container = [y for y in container if not _is_hashed_by_itself(y)]
        for y in container:
            hit = _equal(x, y)
            if isinstance(hit, Operand):
                hit = OPS["reduce_all"](hit, axis=tuple(range(len(hit.shape)))) if hit.shape else hit
                found = hit if found is False else OPS["logical_or"](found, hit)
            elif hit:
                return True
        return found
    if isinstance(x, Operand) and isinstance(container, (str, bytes, bytearray)):
        raise locate(TracedValueError(f"a {type(container).__name__} is asked for a tensor's value"))
    held: Any = container if isinstance(container, _GONE_THROUGH) else ()
    if held or is_users(type(x)):
        reads.state(x, *held, asks=ORDER)
    reads.asked(container, asks=("__contains__", "__iter__", "__getitem__"))
    if isinstance(container, (list, tuple)) and specials.among((x, *container), specials.KEY):
        return any(y is x or decided(compares("==", y, x)) for y in container)
    x = int(x) if isinstance(x, Dim) and not isinstance(container, builtins.range) else x
    return backcalls.calling(specials.LOOKED_FOR, operator.contains, container, x)


def _is_hashed_by_itself(x: Any) -> bool:
    """Whether a set asks for the object and not for its value: so it is with tensors that are not Python's numbers."""
    return isinstance(x, Operand) and python_kind(x) is None


def _equal(a: Any, b: Any) -> Any:
    """`a == b`; where sizes are compared, as the user's Python asks for it."""
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Dim) and isinstance(y, (int, float, Dim)) and type(y) is not bool:
            return x.equals(y)  # type: ignore[arg-type]
    return _of_held(operator.eq, a, b)


def _of_held(f: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """A comparison, which asks what containers hold too."""
    return backcalls.calling(ORDER, f, a, b) if isinstance(a, HOLDING) and isinstance(b, HOLDING) else f(a, b)


def _different(a: Any, b: Any) -> Any:
    return not _equal(a, b) if isinstance(a, Dim) or isinstance(b, Dim) else _of_held(operator.ne, a, b)


def compares(op: str, a: Any, b: Any) -> Any:
    if type(a) is Chosen or type(b) is Chosen:
        return asks["compare_chosen"](op, a, b)
    if op[0] in "=!<>" and (is_users(type(a)) or is_users(type(b))):
        made = asks["compare"](op, a, b)
        if made is not NotImplemented:
            return made
    if isinstance(a, Dim) or isinstance(b, Dim):
        a, b = as_number(a), as_number(b)
    if op[0] in "=!<>":
        if type(a) in HOLDING and type(b) in HOLDING:
            reads.state(a, b, asks=ORDER)
        reads.asked(a, b, asks=ORDER)
    made = _COMPARE[op](a, b)
    if op[:2] != "is" and (isinstance(a, np.ndarray) or isinstance(b, np.ndarray)):
        arrays.used(arrays.among([a, b]), made)
    return made


def compare(ops: Sequence[str], first: Any, *rest: Part) -> Any:
    """A comparison, or a chain of them."""
    left, out = first, None
    for i, (op, f) in enumerate(zip(ops, rest, strict=True)):
        right = f()
        out = compares(op, left, right)
        if i + 1 == len(ops):
            return out
        out = decided(out)
        if traced(out):
            return if_exp(out, lambda: compare(ops[i + 1 :], right, *rest[i + 1 :]), lambda: out)  # noqa: B023
        if not out:
            return out
        left = right
    return out

