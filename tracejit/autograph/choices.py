"""What converted code does with a value that a tensor chooses among a few, or that has one of two shapes."""

from __future__ import annotations

import builtins
import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any

from tracejit.autograph import branches, chosen, logic, places, reads
from tracejit.autograph.branches import Part, decided, if_exp
from tracejit.autograph.chosen import Chosen, is_among, is_constant, left, refused
from tracejit.autograph.failures import MARK
from tracejit.autograph.owners import is_users
from tracejit.autograph.values import Either, several
from tracejit.errors import ShapeError, TracejitError, ends_inside
from tracejit.ir.op import OPS
from tracejit.ir.types import bool_
from tracejit.ops.regions import as_test
from tracejit.tensor import Operand, Variable
from tracejit.tree import flatten

_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_DENIED = {"!=": "==", "is not": "is", "not in": "in"}
_ASKING: list[Any] = [isinstance, issubclass, callable]
_SHOWING: list[Any] = [print, repr, ascii, format]
# what may be given containers with such values in them
_LOOKING_INTO = [list, tuple, dict, reversed, iter, builtins.len, builtins.enumerate, builtins.zip, builtins.map]


# --- one branch for each ----------------------------------------------------------------------------------------------
def each_way(f: Part, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """`f(*args)`, where arguments may have one of two shapes, or are chosen by tensors."""
    for i, x in enumerate(args):
        if type(x) is Either:
            one, two = [
                functools.partial(each_way, f, [*args[:i], v, *args[i + 1 :]], kwargs) for v in (x.first, x.second)
            ]
            return if_exp(x.flag, one, two, uneven=True)
        if type(x) is Chosen:
            return for_each(x, lambda v: each_way(f, [*args[:i], v, *args[i + 1 :]], kwargs))  # noqa: B023
    for k, x in kwargs.items():
        if type(x) is Chosen:
            return for_each(x, lambda v: each_way(f, args, {**kwargs, k: v}))  # noqa: B023
    return f(*args, **kwargs)


def for_each(x: Chosen, f: Part) -> Any:
    """`f` of the value that a tensor chooses: a branch for each that it may be."""
    try:
        return _among(x, left(x), f, [])
    except ShapeError as e:
        if not e.of_branches:
            raise
        raise refused(x, f"gives other shapes for each: {e.message}") from None


def _among(x: Chosen, which: Sequence[int], f: Part, also: list[places.Place]) -> Any:
    if len(which) == 1:
        return _of_one(f, x.values[which[0]])
    m = len(which) // 2
    one, two = [functools.partial(_among, x, part, f, also) for part in (which[:m], which[m:])]
    return if_exp(chosen.is_below(x, which[m]), one, two, also=also)


def _of_one(f: Part, v: Any) -> Any:
    """`f(v)`. An error that Python raises is that of the program where it comes to this value."""
    try:
        return f(v)
    except Exception as e:
        if not (isinstance(e, TracejitError) or ends_inside(e.__traceback__)):
            e.__dict__[MARK] = True
        raise


# --- questions --------------------------------------------------------------------------------------------------------
def truth(x: Chosen) -> Any:
    """What decides in the place of a condition."""
    if all(map(is_constant, chosen.candidates(x))):
        return is_among(x, [k for k in left(x) if x.values[k]])

    def of_one(v: Any) -> Any:
        v = decided(v)
        return as_test(v) if isinstance(v, Variable) else v if branches.traced(v) else bool(v)

    return for_each(x, of_one)


def compared(op: str, a: Any, b: Any) -> Any:
    """`a op b`, one of which or both are chosen."""
    plain = _asks(_DENIED.get(op, op))
    pairs = [(v, w) for v in chosen.candidates(a) for w in chosen.candidates(b)]
    answers: list[Any]
    try:
        answers = [plain(v, w) for v, w in pairs] if plain is not None else [None]
    except TypeError:
        answers = [None]
    if not all(type(r) is bool for r in answers):
        return each_way(lambda v, w: logic.compares(op, v, w), (a, b), {})
    if op in _DENIED:
        answers = [not r for r in answers]
    if type(b) is not Chosen:
        return is_among(a, [k for k, r in zip(left(a), answers, strict=True) if r])
    if type(a) is not Chosen:
        return is_among(b, [k for k, r in zip(left(b), answers, strict=True) if r])
    return _of_both(a, b, answers)


def _of_both(a: Chosen, b: Chosen, answers: Sequence[bool]) -> Any:
    n = len(left(b))
    found: Any = False
    for i, k in enumerate(left(a)):
        own = [m for m, r in zip(left(b), answers[i * n : i * n + n], strict=True) if r]
        hit = logic.and_(lambda k=k: is_among(a, [k]), lambda own=own: is_among(b, own))  # type: ignore[misc]
        found = hit if found is False else OPS["logical_or"](found, hit) if hit is not False else found
    return OPS["cast"](found, dtype=bool_, weak=True) if isinstance(found, Operand) else found


def _asks(op: str) -> Callable[[Any, Any], Any] | None:
    """How a comparison is made of known values; what is neither True nor False is not for us to say."""
    if op == "is":
        return logic.is_one
    if op == "in":
        return lambda v, w: logic.is_in(v, w) if _is_simple(v) and type(w) in _PLAIN else None
    if op == "==":
        return lambda v, w: v == w if _is_simple(v) and _is_simple(w) else None
    return lambda v, w: _ORDERS[op](v, w) if is_constant(v) and is_constant(w) else None


_PLAIN = (str, tuple, list, dict, set, frozenset, builtins.range)


def _is_simple(x: Any) -> bool:
    """Whether it is equal to what Python says it is equal to."""
    return is_constant(x) or (type(x).__eq__ is object.__eq__ and not isinstance(x, Operand))


def hits(f: Callable[..., Any], args: Sequence[Any]) -> Any:
    """`isinstance` and its like of a value that is chosen."""
    x, *rest = args
    return is_among(x, [k for k in left(x) if f(x.values[k], *rest)])


# --- calls, attributes, items -----------------------------------------------------------------------------------------
def called(f: Any, g: Callable[..., Any]) -> Callable[..., Any]:
    """`g`, which is called in the place of `f`, where some arguments may be chosen."""
    h = getattr(g, "func", g)
    if hasattr(getattr(h, "__func__", h), "ag_original") or _takes(f):
        return g

    def call(*args: Any, **kwargs: Any) -> Any:
        every = [*args, *kwargs.values()]
        if len(args) == 2 and type(args[1]) is Chosen and _is_gradient(f):
            return _gradient(g, *args, **kwargs)
        if any(f is k for k in _ASKING) and type(args[0]) is Chosen and not any(type(y) is Chosen for y in args[1:]):
            return hits(f, args)
        if not any(f is k for k in _LOOKING_INTO):
            for y in every:
                check_inside(y)
        return each_way(g, args, kwargs)

    return call


def _is_gradient(f: Any) -> bool:
    return str(getattr(f, "__module__", "")) == "tracejit.autodiff.tape" and f.__name__ == "gradient"


def _gradient(g: Callable[..., Any], target: Any, source: Chosen, **kwargs: Any) -> Any:
    """A tape gives one gradient only: those of all that the source may be, of which the one is chosen."""
    values = chosen.candidates(source)
    found = g(target, values, **kwargs)
    return for_each(source, lambda v: found[chosen.place(values, v) or 0])


def _takes(f: Any) -> bool:
    """Whether a call can do with values that are chosen: errors keep them, generators are the user's."""
    if isinstance(f, type):
        return issubclass(f, BaseException) or f is str
    if type(getattr(f, "__self__", None)) is str:
        return f.__name__ in ("join", "format")
    code = getattr(getattr(f, "__func__", f), "__code__", None)
    return any(f is k for k in _SHOWING) or (code is not None and bool(code.co_flags & inspect.CO_GENERATOR))


def check_inside(x: Any) -> None:
    """Code that is not converted is given a container: it sees what is in it."""
    if several.there and isinstance(x, (list, tuple, dict, set)):
        for y in flatten(x)[0]:
            if type(y) is Chosen:
                raise refused(y, "is in what is given to code that is not converted")


def load(f: Callable[..., Any], x: Chosen, name: str, *default: Any) -> Any:
    """`x.name`, as `f` loads it."""
    if all(_has_method(v, name) for v in chosen.candidates(x)):
        return chosen.mapped(x, lambda v: f(v, name))
    return for_each(x, lambda v: f(v, name, *default))


def _has_method(x: Any, name: str) -> bool:
    """Whether an attribute is a function of the class, which does nothing when it is read."""
    own = getattr(x, "__dict__", None)
    here = isinstance(own, dict) and name in own
    return not here and not isinstance(x, type) and type(x).__getattribute__ in _PLAINLY and _is_function(x, name)


_PLAINLY = [c.__getattribute__ for c in (object, str, bytes, int, float, tuple)]
_FUNCTIONS = (type(len), type(str.lower), type(called))


def _is_function(x: Any, name: str) -> bool:
    return isinstance(next((vars(c)[name] for c in type(x).__mro__ if name in vars(c)), None), _FUNCTIONS)


def whole(x: Chosen) -> Any:
    """A container in the place of those that are chosen among: what the one holds that is it."""

    def copied(v: Any) -> Any:
        if is_users(type(v)) and not isinstance(v, (list, tuple, dict, str)):
            v = branches.asks["iterated"](v)
        elif not isinstance(v, (list, tuple, dict, str, builtins.range)):
            raise refused(x, "is gone through")
        reads.whole(v)
        return places.made(dict(v)) if isinstance(v, dict) else v if isinstance(v, tuple) else places.made(list(v))

    return for_each(x, copied)


def is_in_key(key: Any) -> bool:
    return several.there and type(key) is tuple and any(type(k) is Chosen for k in key)


branches.asks.update(chosen=truth, compare_chosen=compared)
