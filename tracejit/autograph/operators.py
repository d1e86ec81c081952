"""What converted code calls, in one place for it; and the parts that are neither branches nor loops nor calls."""

from __future__ import annotations

import builtins
import collections.abc
import functools
import os
import types
from typing import Any

import numpy as np

from tracejit.autograph import (
    arrays,
    cachedcalls,  # noqa: F401 - lets calls of functions be known that keep their results
    calls,
    choices,
    classtests,  # noqa: F401 - lets tests of classes be known
    constructors,  # noqa: F401 - lets calls of classes be known
    delegates,  # noqa: F401 - and those of getters
    dicts,
    failures,
    gathering,  # noqa: F401 - and of those that go through all of something
    growing,
    hostcalls,
    insides,
    listops,
    mutations,
    orders,
    piles,
    places,
    protocols,
    reads,
    specials,
    stores,
    watching,
)
from tracejit.autograph.backcalls import class_ends, class_starts, key
from tracejit.autograph.backcalls import key as as_key
from tracejit.autograph.branches import Part, asked, decided, if_, if_exp, traced
from tracejit.autograph.calls import assign, called, callee, converted, load, own_method, replace
from tracejit.autograph.choices import each_way, for_each, is_in_key
from tracejit.autograph.chosen import Chosen
from tracejit.autograph.contexts import entered, passing
from tracejit.autograph.displays import decorating, keyed, not_told, position, positions, unpacked
from tracejit.autograph.evaluating import evaluate, evaluated, execute, variables
from tracejit.autograph.failures import NOT_CAUGHT, abandoned, catching, caught, here, leaving, meanwhile, thrown
from tracejit.autograph.librarycalls import effect
from tracejit.autograph.logic import and_, compare, none_of, not_, or_
from tracejit.autograph.loops import LONG, for_, while_
from tracejit.autograph.mutations import mutated
from tracejit.autograph.numbers import picked
from tracejit.autograph.numbers import sliced as sliced_by
from tracejit.autograph.places import attribute as writes_attribute
from tracejit.autograph.places import cell as writes_cell
from tracejit.autograph.places import entry as writes_global
from tracejit.autograph.protocols import IN_PLACE, SEVERAL, binary, goes_own_way, in_place, iterated, negative
from tracejit.autograph.ranges import Rows, is_many, items_of, length_of
from tracejit.autograph.reads import whole
from tracejit.autograph.stores import changed, part_to_change, store
from tracejit.autograph.texts import formatted, joined
from tracejit.autograph.values import Optional, Undefined, names, several
from tracejit.errors import ConversionError, locate
from tracejit.ir.dim import Dim
from tracejit.ir.op import OPS
from tracejit.ops.found import is_open
from tracejit.ops.regions import as_test
from tracejit.runtime.guards import raw
from tracejit.runtime.held import MISSING
from tracejit.tensor import Operand


# --- values -----------------------------------------------------------------------------------------------------------
def made(x: Any) -> Any:
    """`x`, which stands in the code as a display, a comprehension or a class."""
    if type(x) is set or type(x) is dict:
        for key in x:
            reads.hashed(key)
    return places.made(x)


def undefined(name: str) -> Undefined:
    return Undefined(name)


def value_of(x: Any, name: str) -> Any:
    """The value of a variable that may have none."""
    if type(x) is Undefined:
        raise locate(x.fail())
    if type(x) is Optional and not x.none:
        return x.get()
    return x


def returned(x: Any) -> Any:
    """What a function returns. That it is perhaps None is for its caller to ask."""
    if type(x) is Undefined:
        return None
    return x.get() if type(x) is Optional and not x.none else x


def item(x: Any, key: Any) -> Any:
    """`x[key]`; the user's own `__getitem__` is converted too."""
    key = as_key(key) if isinstance(x, dict) else positions(key)
    if type(x) in SEVERAL or type(key) in SEVERAL:
        return each_way(item, (x, key), {})
    if is_in_key(key):
        return each_way(lambda *k: item(x, k), key, {})
    if isinstance(x, (list, tuple, str)):
        key = position(key)
    if growing.is_pile(x):
        return piles.item(x, key)
    if growing.is_grown(x):
        return growing.item(x, key) if type(key) is not slice or growing.settled(x) else listops.sliced(x, key)
    if growing.is_partial(x):
        return dicts.item(x, key)
    if type(key) in (int, str) and (number := reads.given("items", x, key)) is not None:
        return number
    if (found := sliced_by(x, key) if type(key) is slice else picked(x, key)) is not ...:
        return found
    if isinstance(x, dict) and (missing := raw(type(x), "__missing__")) is not MISSING and not _is_key(x, key):
        return _missing(x, key, missing)
    reads.item(x, whole(key))
    if isinstance(x, np.ndarray) and not isinstance(key, Operand):
        arrays.used(arrays.among([key]), None)
        return arrays.fresh(reads.array_item(x, key, x[key]))
    reads.special(x, "__getitem__")
    get = raw(type(x), "__getitem__") if not isinstance(x, Operand) else None
    if type(get) is types.FunctionType:
        if insides.is_others(get):
            reads.by_method(x, get)
            reads.state(key)
            hostcalls.check_asked(x)
            return watching.asked(get, x, key)
        return callee(get)(x, key)
    if isinstance(x, type) and get is MISSING and type(raw(x, "__class_getitem__")) is classmethod:
        return callee(load(x, "__class_getitem__"))(key)
    hostcalls.check_asked(x)
    made = x[key]
    if type(key) is slice and type(x) is list:
        return places.made(made)
    if indices := arrays.among([key]):
        arrays.used(indices, made)
    return made


calls.keep["item"] = item  # type: ignore[assignment]


def _is_key(x: dict[Any, Any], key: Any) -> bool:
    return isinstance(key, Operand) or type(key).__hash__ is None or key in x


def _missing(x: dict[Any, Any], key: Any, missing: Any) -> Any:
    """`x[key]` of a dict that says what it has for a key that is missing; a defaultdict keeps it from then on."""
    reads.contains(x, whole(key))
    if type(missing) is types.FunctionType:
        return callee(missing)(x, key)
    factory = getattr(x, "default_factory", None)
    if missing is not _DEFAULT or factory is None:
        return x[key]  # an error, or the zero of a Counter
    value = made(called(factory)())
    store(x, ((False, key),), value, "", "a dict")
    return value


class _Sliced:
    """Stands for an array, or a list that has grown, in front of brackets with a slice in them."""

    __slots__ = ("_x",)

    def __init__(self, x: Any) -> None:
        self._x = x

    def __getitem__(self, key: Any) -> Any:
        return item(self._x, key)


def sliced(x: Any) -> Any:
    """`x`, of which a slice is taken."""
    if type(x) in (list, tuple, str) or isinstance(x, (np.ndarray, *SEVERAL)):
        return _Sliced(x)
    return _Sliced(x) if own_method(x, "__getitem__") is not None else whole(x)


def operand(x: Any) -> Any:
    """`x`, on which an operator works: everything in a container is read, if it is not for `binary` to say."""
    return x if growing.is_grown(x) else whole(x)


def each(x: Any) -> Any:
    """`x`, of which every item is taken."""
    if type(x) is Chosen:
        return choices.whole(x)
    if type(x) in (list, tuple) and any(growing.is_grown(y) or growing.is_partial(y) for y in x):
        return x
    hostcalls.check_iterator(x)
    return whole(reads.content(iterated(x) if goes_own_way(x) else watching.steps_of(x)))


def _got(x: dict[Any, Any], key: Any, *default: Any) -> Any:
    reads.item(x, as_key(key))
    if not growing.is_partial(x):
        return x.get(key, *default)
    there, value = dicts.got(x, key)
    return if_exp(there, lambda: value, lambda: default[0] if default else None)


def set_attribute(x: Any, name: str, value: Any) -> None:
    """`x.name = value`; the setters of properties and the user's own `__setattr__` are converted too."""
    if type(x) is Chosen:
        for_each(x, lambda v: set_attribute(v, name, value))
        return
    reads.special(x, "__setattr__")
    setter = raw(type(x), "__setattr__")
    if insides.is_others(setter):
        watching.asked(setter, x, name, value)
    elif type(setter) is types.FunctionType:
        callee(setter)(x, name, value)
    elif setter is object.__setattr__ or isinstance(x, type):
        assign(x, name, value)
    else:
        _by_slot(setter, setattr, x, name, value)


def _by_slot(slot: Any, plain: Any, x: Any, name: str, *value: Any) -> None:
    """A class sets or deletes attributes by a method of another's, such as `dict.__setitem__`."""
    if (change := mutations.changing(slot)) is not None:
        change(x, name, *value)
        return
    places.attribute(x, name)
    plain(x, name, *value)


def delete_attribute(x: Any, name: str) -> None:
    """`del x.name`; the user's own `__delattr__` is converted too."""
    if type(x) is Chosen:
        for_each(x, lambda v: delete_attribute(v, name))
        return
    f = own_method(x, "__delattr__")
    if f is not None:
        callee(f)(x, name)
        return
    hostcalls.check_set(x, raw(type(x), "__delattr__"), f"attribute {name}")
    reads.special(x, "__delattr__")
    of_class = raw(type(x), name)
    if type(of_class) is property and of_class.fdel is not None:
        hostcalls.check_set(x, of_class.fdel, f"attribute {name}")
        callee(of_class.fdel)(x)
        return
    if (delete := own_method(of_class, "__delete__")) is not None:
        callee(delete)(of_class, x)
        return
    _by_slot(raw(type(x), "__delattr__"), delattr, x, name)


def _changed(op: str, x: Any, y: Any) -> Any:
    return in_place(op, x, whole(y))


def _counted(counts: dict[Any, Any], items: Any) -> None:
    """How a `collections.Counter` counts."""
    for x in iterated(whole(items)):
        store(counts, ((False, x),), binary("+", _got(counts, x, 0), 1), "", "a Counter")


replace(collections.Counter.update.__globals__["_count_elements"], converted(_counted))
replace(builtins.setattr, set_attribute)
replace(builtins.delattr, delete_attribute)
for _op, _f in IN_PLACE.items():
    replace(_f, functools.partial(_changed, _op))


def method(x: Any, name: str, unused: bool = False) -> Any:
    """`x.name`, which is about to be called: of a container it may change what that holds."""
    if type(x) is Chosen:
        return lambda *args, **kwargs: for_each(x, lambda v: method(v, name, unused)(*args, **kwargs))
    f = _method(x, name, unused)
    return functools.partial(_by_key, f) if several.there and places.is_container(x) and name in KEYED else f


def _by_key(f: Any, *args: Any, **kwargs: Any) -> Any:
    return each_way(f, args, kwargs)


def _method(x: Any, name: str, unused: bool) -> Any:
    if name == "get" and isinstance(x, dict):
        return functools.partial(_got, x)
    if places.is_container(x, name):
        if name == "sort" and type(x) is list and places.listener() is not None and not growing.is_grown(x):
            return functools.partial(_sort, x)
        if places.listener() is not None:
            return lambda *args, **kwargs: mutated(places.listener(), x, name, unused, args, kwargs)
        places.items(x)
        return getattr(x, name)
    return (effect if unused else called)(load(x, name))


def _sort(x: list[Any], *, key: Any = None, reverse: Any = False) -> None:
    """`x.sort()`"""
    if key is None and not orders.is_unknown(x) and not specials.among(x, specials.ORDER):
        mutated(places.listener(), x, "sort", True, (), {"reverse": reverse})
        return
    new = orders.in_order(whole(x), None if key is None else callee(key), reverse)
    writes_items(x)
    x[:] = new


def whole_if_grown(x: Any) -> None:
    """A slice of a list is set or deleted."""
    if growing.is_grown(x):
        growing.whole(x)


def writes_items(x: Any, key: Any = places.ALL, deleted: bool = False) -> None:
    """Items of a container or an array are about to be set."""
    if x is os.environ and places.listener() is not None:
        raise locate(ConversionError("the environment is changed"))
    watching.check_items(x)
    if isinstance(x, dict):
        as_key(key)
    mutations.check_bytes(x)
    of_position = type(x) is list and isinstance(key, Operand)  # any item may be the one
    key = places.ALL if of_position else key
    arrays.writes(x, key is not places.ALL)
    if (key is places.ALL and not of_position) or isinstance(key, slice):
        whole_if_grown(x)
    places.items(x, key, deleted)


def put_item(x: Any, key: Any, value: Any) -> None:
    """`x[key] = value`"""
    if mutations.sliced(x, key):
        mutations.by_slice(x, "__setitem__", key, value)
        return
    writes_items(x, key)
    try:
        protocols.set_item(x, key, value)
    except Exception:
        places.failed(x)
        raise


def delete_item(x: Any, key: Any) -> None:
    """`del x[key]`"""
    if mutations.sliced(x, key):
        mutations.by_slice(x, "__delitem__", key)
        return
    if Chosen not in (type(x), type(key)):
        if failures.is_caught() and isinstance(x, dict):
            reads.contains(x, key)
        writes_items(x, key, True)
    try:
        protocols.delete_item(x, key)
    except Exception:
        places.failed(x)
        raise


stores.asks.update(item=item, set_attribute=set_attribute, put_item=put_item)
protocols.asks.update(delete_item=delete_item)
slice_ = slice
KEYED = {"get", "pop", "setdefault", "add", "discard", "remove"}  # methods that look their arguments up
_DEFAULT = raw(collections.defaultdict, "__missing__")


def eagerly(f: Any) -> Any:
    """What is called where functions run as plain Python."""
    return stores.asks["eagerly"](f)


def raised(error: Any, *cause: Any) -> Any:
    """What a `raise` statement raises, `from` a cause perhaps."""
    if type(error) is Chosen or any(type(c) is Chosen for c in cause):
        each_way(_raise, (error, *cause), {})
    return failures.raised(error, *cause)


def _raise(error: Any, *cause: Any) -> None:
    raise failures.raised(error, *cause)


# --- statements with effects ------------------------------------------------------------------------------------------
def assert_(test: Part, message: Part | None, text: str) -> None:
    """`assert`: `text` is what is said of a condition that is a tensor, where there is no message to be made."""

    def fail() -> None:
        raise raised(AssertionError(*([message()] if message is not None else [])))

    ok = decided(test())
    if not traced(ok):
        if not ok:
            fail()
    elif text:
        OPS["check"](as_test(ok), error="AssertionError", message=text.replace("{", "{{").replace("}", "}}"))
    else:
        if_(ok, lambda: None, fail, tuple, lambda new: None, (), ())


def rows(x: Any, unpacks: bool = False) -> Any:
    """What a comprehension goes through, which takes the items of each row if it `unpacks`."""
    x = iterated(x)
    x = items_of(x) if growing.is_grown(x) else x
    hostcalls.check_iterator(x)
    if isinstance(x, Operand) and traced(x):
        n = length_of(x)
        if isinstance(n, Dim):
            n = int(n)
        return [x[i] for i in builtins.range(n)]
    x = whole(reads.content(x))
    return [unpacked(y) for y in x] if unpacks and type(x) in (list, tuple) else x


def comprehended(it: Any, plain: Part, item_of: Part, keeps: Part | None) -> Any:
    """A comprehension over `it`: Python's own, `plain`, or a loop that adds each item of a row that it keeps."""
    x = iterated(it)
    x = items_of(x) if growing.is_grown(x) and not growing.settled(x) else x
    n = length_of(x) if is_many(x) else 0
    yields = type(x) is hostcalls.Yields and places.listener() is not None
    if not (yields or isinstance(n, Operand) or is_open(n) or (isinstance(n, int) and n > LONG)):
        if keeps is None or not traced_in(x):
            return plain(x)
    out: list[Any] = places.made([])

    def step(row: Any) -> None:
        def add() -> None:
            method(out, "append", True)(item_of(row))

        if keeps is None:
            add()
        else:
            if_(keeps(row), add, lambda: None, tuple, lambda new: None, (), ())

    for_(x, step, None, tuple, lambda new: None, ())
    return out


def generated(it: Any, plain: Part, item_of: Part, keeps: Part | None) -> Any:
    """A generator expression that `next` is asked of."""
    x = iterated(it)
    if keeps is None or not traced_in(x):
        return plain(x)
    return hostcalls.Generated(functools.partial(_first, x, item_of, keeps))


def _first(x: Any, item_of: Part, keeps: Part, *default: Any) -> Any:
    """The first item that is kept, which a loop finds."""
    found: Any = False
    value: Any = Undefined("the next item")

    def get() -> Any:
        return found, value

    def put(new: Any) -> None:
        nonlocal found, value
        found, value = new

    def step(row: Any) -> None:
        if_(keeps(row), lambda: put((True, item_of(row))), lambda: None, get, put, ("found", "the next item"), ())

    def missing() -> Any:
        if not default:
            raise raised(StopIteration())
        return default[0]

    for_(x, step, lambda: none_of(found), get, put, ("found", "the next item"))
    return if_exp(found, lambda: value.value if type(value) is Optional and not value.none else value, missing)


def chosen(it: Any, plain: Part, item_of: Part, keeps: Part) -> Any:
    """The same of a dict with a condition: where a tensor may decide, each key is there or not."""
    x = iterated(it)
    x = items_of(x) if growing.is_grown(x) and not growing.settled(x) else x
    if places.listener() is None or (is_many(x) and not isinstance(length_of(x), builtins.int)):
        return plain(x)
    out: dict[Any, Any] = places.made({})

    def step(row: Any) -> None:
        def add() -> None:
            k, v = item_of(row)
            store(out, ((False, k),), v, "", "a dict")

        if_(keeps(row), add, lambda: None, tuple, lambda new: None, (), ())

    for_(x, step, None, tuple, lambda new: None, ())
    return out


def traced_in(x: Any) -> bool:
    """Whether what a comprehension goes through may have traced tensors in it."""
    if isinstance(x, (Operand, Rows)):
        return True
    return places.listener() is not None and not isinstance(x, (builtins.range, str, bytes))


def matched(x: Any) -> Any:
    """What a `match` statement takes apart."""
    choices.check_inside([x])
    reads.state(whole(x))
    return x


def is_sequence(x: Any, n: int) -> bool:
    """Whether a pattern of so many items takes an object apart."""
    if type(x) in (Optional, *SEVERAL) or growing.is_grown(x):
        raise locate(ConversionError("a `match` takes apart what only the running program knows"))
    if not isinstance(x, collections.abc.Sequence) or isinstance(x, (str, bytes, bytearray)):
        return False
    reads.length(x)
    return len(x) == n


def filtered(x: Any) -> Any:
    x = decided(x)
    if traced(x):
        raise locate(
            ConversionError("the condition of a comprehension depends on a tensor", remedy="use tj.boolean_mask")
        )
    return x


__all__ = [
    "NOT_CAUGHT", "abandoned", "and_", "asked", "binary", "called", "callee", "catching", "caught", "changed",
    "class_ends", "class_starts", "compare", "converted", "decided", "decorating", "delete_attribute", "delete_item",
    "eagerly", "entered", "evaluate", "evaluated", "execute", "for_", "formatted", "here", "if_", "if_exp",
    "in_place", "is_sequence", "joined", "key", "keyed", "leaving", "load", "made", "meanwhile", "names", "negative",
    "none_of", "not_", "not_told", "or_", "part_to_change", "passing", "store", "thrown", "unpacked", "variables",
    "while_", "whole", "writes_attribute", "writes_cell", "writes_global", "writes_items",
]  # fmt: skip
