"""What Python calls by itself of the user's classes, converted: operators, lengths, truths, iterators."""

from __future__ import annotations

import builtins
import collections
import collections.abc
import functools
import operator
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tracejit.autograph import (
    arrays,
    backcalls,
    branches,
    calls,
    choices,
    dicts,
    growing,
    hostcalls,
    insides,
    listops,
    logic,
    mutations,
    picking,
    piles,
    places,
    reads,
    specials,
    texts,
    watching,
)
from tracejit.autograph.calls import callee, own_method, replace
from tracejit.autograph.choices import each_way
from tracejit.autograph.chosen import Chosen
from tracejit.autograph.failures import ending
from tracejit.autograph.owners import is_users
from tracejit.autograph.source import is_library
from tracejit.autograph.values import Either
from tracejit.errors import TracedValueError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.operand import asks_which
from tracejit.ops.found import as_number
from tracejit.ops.host import python_kind
from tracejit.pynumbers import is_number
from tracejit.runtime.guards import raw
from tracejit.runtime.held import MISSING
from tracejit.tensor import Operand, convert


def of_user(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """A function of Python's own, which for objects of the user's calls what they have under a special name."""

    def asked(x: Any, *args: Any) -> Any:
        f = own_method(x, name)
        return plain(x, *args) if f is None else callee(f)(x, *args)

    return asked


asks: dict[str, Callable[..., Any]] = {}  # "delete_item": that of `operators`


# --- operators --------------------------------------------------------------------------------------------------------
_NAMES = {
    "+": "add", "-": "sub", "*": "mul", "/": "truediv", "//": "floordiv", "%": "mod", "**": "pow", "@": "matmul",
    "&": "and", "|": "or", "^": "xor", "<<": "lshift", ">>": "rshift",
}  # fmt: skip
_REFLECTED = {"<": "gt", "<=": "ge", ">": "lt", ">=": "le", "==": "eq", "!=": "ne"}
_COMPARED = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
_FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    **{k: getattr(operator, f"{n}_" if n in ("and", "or") else n) for k, n in _NAMES.items()},
    **{k: getattr(operator, n) for k, n in _COMPARED.items()},
}
_METHODS = {
    **{k: (f"__{n}__", f"__r{n}__") for k, n in _NAMES.items()},
    **{k: (f"__{n}__", f"__{_REFLECTED[k]}__") for k, n in _COMPARED.items()},
}
SEVERAL = (Either, Chosen)
_CONTAINERS = (list, dict, set, collections.deque)  # which take note of it themselves
_HOLDING = (*insides.HOLDING, collections.deque)
_NEW = (list, dict, set)  # which operators make anew
IN_PLACE = {k: getattr(operator, f"i{n}") for k, n in _NAMES.items()}


def binary(op: str, a: Any, b: Any) -> Any:
    """`a op b`; the functions of the user's classes are converted."""
    if type(a) in SEVERAL or type(b) in SEVERAL:
        if op in _COMPARED and Chosen in (type(a), type(b)):
            return choices.compared(op, a, b)
        return each_way(functools.partial(binary, op), (a, b), {})
    if op == "%" and type(a) is str and texts.holds(b):
        return texts.filled(a, b)
    if op == "%" and type(a) is str:
        reads.state(b, asks=insides.TEXT)
    if (op == "/" or op in _COMPARED) and (isinstance(a, Dim) or isinstance(b, Dim)):
        a, b = as_number(a), as_number(b)
    if growing.is_grown(a) or growing.is_grown(b):
        if op == "+" and type(a) is type(b) is list:
            return listops.added(a, b)
        for x in (a, b):
            reads.whole(x)
    if not is_users(type(a)) and not is_users(type(b)):
        if op in _COMPARED and type(a) in insides.HOLDING and type(b) in insides.HOLDING:
            reads.state(a, b, asks=insides.ORDER)
        reads.asked(a, b, asks=_METHODS[op])
        made = _plainly(op, a, b)
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
            arrays.used(arrays.among([a, b]), made)
        if type(made) in _NEW:
            return places.made(made)
        return arrays.fresh(made) if type(made) is np.ndarray else made
    made = _asked(op, a, b)
    return _plainly(op, a, b) if made is NotImplemented else made


def _plainly(op: str, a: Any, b: Any) -> Any:
    """What Python's own operator gives, which may call special methods of objects in containers."""
    joins = op in ("+", "*") and type(a) in (list, tuple)  # which asks nothing of what they hold
    held = not joins and (isinstance(a, _HOLDING) or isinstance(b, _HOLDING))
    if held or is_users(type(a)) or is_users(type(b)):
        names = (*_METHODS[op], *(specials.ORDER if op in _COMPARED else insides.NUMBER))
        if op == "%":
            names = (*specials.NAMES,)
        return backcalls.calling(names, _FUNCTIONS[op], a, b)
    return _of_numbers(_FUNCTIONS[op], a, b)


def _of_numbers(f: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    try:
        return f(a, b)
    except TypeError:
        for x, y in ((a, b), (b, a)):
            if type(x).__module__ in ("fractions", "decimal") and is_number(y):
                kind = type(x).__name__
                raise locate(TracedValueError(f"a {kind} is computed with a number of a loop or branch")) from None
        raise


_SEQUENCES = (list, tuple, str, bytes, bytearray, collections.deque)


def _asked(op: str, a: Any, b: Any) -> Any:
    """What the methods of two objects say, in Python's order; NotImplemented if none is the user's."""
    name, other = _METHODS[op]
    if op == "!=":
        return _differs(a, b)
    reads.special(a, name)
    reads.special(b, other)
    first, second = raw(type(a), name), raw(type(b), other)
    if insides.is_others(first) or insides.is_others(second):
        reads.state(a, b)
    if not (_is_own(first) or _is_own(second)):
        reads.state(a, b, asks=(*insides.NUMBER, name, other))
        return NotImplemented
    tries = [(first, a, b), (second, b, a)]
    if type(a) is type(b) and op in _NAMES:
        del tries[1]
    elif type(a) is not type(b) and issubclass(type(b), type(a)) and second is not raw(type(a), other):
        tries.reverse()
    elif op in ("+", "*") and isinstance(a, _SEQUENCES) and _is_own(second):
        tries.reverse()  # these are asked last
    for method, x, y in tries:
        if method is MISSING or method is None:
            continue
        if insides.is_generated(method) and op != "==":
            made = backcalls.calling(specials.ORDER, method, x, y)
        else:
            asked = [] if _is_own(method) else specials.among((x, y))
            made = callee(method)(x, y) if _is_own(method) else backcalls.calling_back(asked, _bound(method, x), y)
        if made is not NotImplemented:
            return made
    return a is b if op == "==" else NotImplemented


def _bound(method: Any, x: Any) -> Any:
    if x is None:  # which descriptors take for no object
        return functools.partial(method, x)
    return method.__get__(x, type(x)) if hasattr(type(method), "__get__") else method


def _differs(a: Any, b: Any) -> Any:
    """`a != b`, which is what `__eq__` denies where a class has no `__ne__`."""
    pairs, asked = [(a, b), (b, a)], False
    if type(a) is not type(b) and issubclass(type(b), type(a)) and raw(type(b), "__ne__") is not raw(type(a), "__ne__"):
        pairs.reverse()
    for x, y in pairs:
        reads.special(x, "__ne__", "__eq__")
        if insides.is_others(raw(type(x), "__eq__")):
            reads.state(x, y)
        if _is_own(raw(type(x), "__ne__")):
            made = callee(raw(type(x), "__ne__"))(x, y)
        elif _is_own(raw(type(x), "__eq__")):
            made = callee(raw(type(x), "__eq__"))(x, y)
            made = made if made is NotImplemented else logic.not_(made)
        else:
            continue
        asked = True
        if made is not NotImplemented:
            return made
    return a is not b if asked else NotImplemented


def _is_own(f: Any) -> bool:
    return type(f) is types.FunctionType and not is_library(f)


def in_place(op: str, a: Any, b: Any) -> Any:
    """What `a op= b` gives the target."""
    if type(a) is Chosen:
        return each_way(functools.partial(in_place, op), (a, b), {})
    if type(a) is Either or type(b) in SEVERAL:
        return binary(op, a, b)
    if is_users(type(a)) or is_users(type(b)):
        f = own_method(a, f"__i{_NAMES[op]}__")
        made = callee(f)(a, b) if f is not None else NotImplemented
        if made is not NotImplemented:
            return made
        if raw(type(a), f"__i{_NAMES[op]}__") is MISSING or f is not None:
            return binary(op, a, b)
    if isinstance(a, np.ndarray) and (not isinstance(b, Operand) or python_kind(b) is not None):
        if arrays.from_outside(a):
            arrays.later(a, f"__i{_NAMES[op]}__", b)
            return a
        arrays.writes(a)
    f = raw(type(a), f"__i{_NAMES[op]}__")
    of_pythons = isinstance(a, _CONTAINERS) and getattr(f, "__module__", None) == "collections"
    if insides.is_others(f) and not of_pythons:
        return watching.asked(f, a, b)
    if op == "+" and isinstance(a, list | collections.deque):
        hostcalls.check_iterator(b)
    if op == "+" and growing.is_pile(a):
        places.items(a)
        piles.extend(a, b)
        return a
    if op in _NAMES and (of_pythons or places.is_container(a, f"__i{_NAMES[op]}__")):
        made = mutations.operated(op, a, b, IN_PLACE[op])
    else:
        if places.is_container(a):  # a method of a library's, which is not converted
            reads.whole(a)
            places.items(a)
        mutations.check_bytes(a)
        made = _of_numbers(IN_PLACE[op], a, b)
    growing.noted(made)
    if isinstance(b, np.ndarray) or (isinstance(a, np.ndarray) and made is not a):
        arrays.used(arrays.among([a, b]), made)
    return made


unary = {
    "-": of_user("__neg__", operator.neg),
    "+": of_user("__pos__", operator.pos),
    "~": of_user("__invert__", operator.invert),
}


def negative(op: str, x: Any) -> Any:
    """`op x`."""
    if type(x) in SEVERAL:
        return each_way(functools.partial(negative, op), (x,), {})
    return arrays.fresh(unary[op](reads.content(x)))


# --- items, truth and length ------------------------------------------------------------------------------------------
def set_item(x: Any, key: Any, value: Any) -> None:
    """`x[key] = value`"""
    f = own_method(x, "__setitem__")
    if f is None and not isinstance(x, _CONTAINERS):
        hostcalls.check_set(x, raw(type(x), "__setitem__"), "an item")
    if f is None and isinstance(x, np.ndarray):
        arrays.put(x, key, value)
    elif f is None:
        if type(key) is slice:
            hostcalls.check_iterator(value)
        if growing.is_grown(x):
            listops.set_item(x, key, value)
        elif growing.is_partial(x):
            dicts.set_item(x, key, value)
        elif picking.can_be_set(x, key):
            picking.set_at(x, key, value)
        else:
            x[key] = value
    else:
        callee(f)(x, key, value)


def delete_item(x: Any, key: Any) -> None:
    """`del x[key]`"""
    if Chosen in (type(x), type(key)):
        each_way(asks["delete_item"], (x, key), {})
        return
    f = own_method(x, "__delitem__")
    if f is None and not isinstance(x, _CONTAINERS):
        hostcalls.check_set(x, raw(type(x), "__delitem__"), "an item")
    if f is None and growing.is_grown(x):
        listops.delete_item(x, key)
    elif f is None and growing.is_partial(x):
        dicts.delete_item(x, key)
    elif f is None:
        del x[key]
    else:
        callee(f)(x, key)


def truth(x: Any) -> Any:
    """What decides whether an object counts as true: its own answer, or the object itself."""
    if growing.is_pile(x):
        return OPS["greater"](x[0].count, 0)
    if growing.is_grown(x):
        return OPS["not_equal"](convert(growing.length(x)), 0)
    if growing.is_partial(x):
        return OPS["not_equal"](dicts.length(x), 0)
    f = own_method(x, "__bool__")
    if f is not None:
        return callee(f)(x)
    f = own_method(x, "__len__") if raw(type(x), "__bool__") is MISSING else None
    return x if f is None else callee(f)(x) != 0


def _contains(container: Any, x: Any) -> Any:
    f = own_method(container, "__contains__")
    return NotImplemented if f is None else truth(callee(f)(container, x))


def _looked_through(x: Any) -> Any:
    """What to look for something in, which may have to go through it."""
    hostcalls.check_iterator(x)
    if raw(type(x), "__contains__") is not MISSING:
        return x
    return iterated(x) if is_users(type(x)) else watching.steps_of(x)


branches.asks.update(
    truth=truth, contains=_contains, compare=_asked, listed=listops.contains, looked_through=_looked_through
)


# --- iterators ------------------------------------------------------------------------------------------------------
def iterated(x: Any) -> Any:
    """What to go through in the place of an object: its own iterator, with its steps converted."""
    if type(x) is Chosen:
        return choices.whole(x)
    if type(x) in _VIEWS and is_users(type(x._mapping)):
        return places.made(_viewed(x))
    if not is_users(type(x)):
        reads.asked(x, asks=("__iter__", "__next__", "__getitem__"))
        return watching.steps_of(x)
    f = own_method(x, "__iter__")
    it = x if f is None else callee(f)(x)
    if f is None and raw(type(x), "__iter__") in _BY_INDEX and (get := own_method(x, "__getitem__")) is not None:
        return places.made(_by_index(x, callee(get)))
    step = own_method(it, "__next__")
    return it if step is None else places.made(_steps(it, callee(step)))


_VIEWS = (collections.abc.KeysView, collections.abc.ValuesView, collections.abc.ItemsView)


def goes_own_way(x: Any) -> bool:
    """Whether going through an object may call functions of the user's."""
    return is_users(type(x)) or type(x) in _VIEWS


def _viewed(x: Any) -> Iterator[Any]:
    """The keys, values or items of a mapping of the user's that `collections.abc` goes through."""
    of = x._mapping
    for k in iterated(of):
        if type(x) is collections.abc.KeysView:
            yield k
        else:
            value = calls.keep["item"](of, k)  # type: ignore[call-arg]
            yield value if type(x) is collections.abc.ValuesView else (k, value)


_BY_INDEX = (MISSING, collections.abc.Sequence.__iter__)


def _by_index(x: Any, get: Callable[..., Any]) -> Iterator[Any]:
    i = 0
    while True:
        try:
            with ending(IndexError):
                row = get(x, i)
        except (IndexError, StopIteration):
            return
        yield row
        i += 1


def _steps(it: Any, step: Callable[..., Any]) -> Iterator[Any]:
    while True:
        try:
            with ending(StopIteration):
                row = step(it)
        except StopIteration:
            return
        yield row


def _following(x: Any, *default: Any) -> Any:
    """Python's `next`; the steps of the user's iterators are converted."""
    step = own_method(x, "__next__") if places.listener() is not None and places.is_made(x) else None
    if step is None:
        return hostcalls.following(x, *default)
    try:
        with ending(StopIteration):
            return callee(step)(x)
    except StopIteration:
        if not default:
            raise
    return default[0]


def _hash(x: Any) -> int:
    reads.hashed(x)
    return hash(x)


def _id(x: Any) -> int:
    if isinstance(x, Operand):
        asks_which(x)
    return id(x)


for _op, _f in _FUNCTIONS.items():
    replace(_f, functools.partial(binary, _op))
replace(builtins.next, _following)
replace(builtins.round, of_user("__round__", builtins.round))
replace(builtins.abs, of_user("__abs__", builtins.abs))
replace(builtins.id, _id)
replace(builtins.hash, of_user("__hash__", _hash))
replace(builtins.iter, lambda x, *end: builtins.iter(iterated(x), *end))
replace(builtins.reversed, of_user("__reversed__", builtins.reversed))
calls.keep["iterated"] = branches.asks["iterated"] = iterated
