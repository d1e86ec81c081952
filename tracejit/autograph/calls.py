"""What a call in converted code calls: the user's functions converted, some of Python's own for tensors too."""

from __future__ import annotations

import builtins
import collections
import functools
import inspect
import itertools
import operator
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from tracejit.autograph import (
    arrays,
    backcalls,
    choices,
    dicts,
    growing,
    hostcalls,
    insides,
    listops,
    mutations,
    places,
    rare,
    reads,
    specials,
    watching,
)
from tracejit.autograph.branches import if_exp
from tracejit.autograph.chosen import Chosen
from tracejit.autograph.owners import is_library_module, is_users
from tracejit.autograph.ranges import enumerate_, items_of, range_, tensor_range, zip_
from tracejit.autograph.source import is_library
from tracejit.autograph.values import Either, Optional, Undefined, several, uneven
from tracejit.context import context
from tracejit.ops import array, creation, host
from tracejit.ops.assign import SLICE_METHODS
from tracejit.runtime.cachedcalls import Cached
from tracejit.runtime.guards import own_dict, raw
from tracejit.runtime.held import MISSING
from tracejit.tensor import Operand, Tensor, Variable


def own_method(x: Any, name: str) -> types.FunctionType | None:
    """The function of the user's that Python calls for an object under a special name."""
    x = rare.shown_by(x) if type(x) in rare.PROXIES else x
    cls = type(x)
    if not is_users(cls):
        reads.asked(x, asks=(name,))
        return None
    reads.special(x, name)
    f = raw(cls, name)
    if insides.is_others(f):
        reads.state(x)
    return f if type(f) is types.FunctionType and not is_library(f) else None


def _length(x: Any) -> Any:
    """Python's len; of a tensor it may be a symbol."""
    if growing.is_grown(x):
        return growing.length(x)
    if growing.is_partial(x):
        return dicts.length(x)
    reads.length(x)
    hostcalls.check_asked(x)
    if (f := own_method(x, "__len__")) is not None:
        return callee(f)(x)
    if (count := getattr(type(x), "count_of_numbers", None)) is not None:
        return count(x)
    return x.shape[0] if isinstance(x, Operand) and x.shape else len(x)


OF_VARIABLES = {*SLICE_METHODS, "ref"} | (set(dir(Variable)) - set(dir(Tensor)))
# attributes of arrays that do not depend on their numbers
_OF_TYPE = frozenset(dir(np.ndarray)) & {
    "shape", "ndim", "dtype", "size", "T", "mT", "strides", "nbytes", "itemsize", "flags", "base", "real", "imag",
    "view", "reshape", "ravel", "transpose", "swapaxes", "squeeze", "diagonal",
}  # fmt: skip


def load(x: Any, name: str, *default: Any) -> Any:
    """`x.name`; the functions of properties and `__getattr__` are converted too."""
    if type(x) is Either:
        return _method_of(x, name)
    if type(x) is Chosen:
        return choices.load(load, x, name, *default)
    if type(x) in rare.PROXIES:
        x = rare.shown_by(x)
    if name in OF_VARIABLES and isinstance(x, (Operand, Optional)) and not isinstance(x, Variable):
        places.assigned(x)
    if isinstance(x, Operand):
        found = hostcalls.of_array(x, name)
        perhaps_set = type(x).__dictoffset__ and (is_users(type(x)) or raw(type(x), name) is MISSING)
        if perhaps_set and not host.is_traced(x):
            reads.attribute(x, name)
        return getattr(x, name, *default) if found is None else found
    if growing.is_grown(x) and (own_way := listops.bound(x, name)) is not None:
        return own_way
    if (number := reads.given("attribute", x, name)) is not None:
        return number
    if type(x) is np.ndarray:
        reads.form(x) if name in _OF_TYPE else reads.content(x)
    reads.attribute(x, name)
    if name == "__class__":
        reads.kind(x)
    elif (get := own_method(x, "__getattribute__")) is not None:
        return _by_own_way(get, x, name, *default)
    if type(x) is super and (above := _getter_above(x, name)) is not None:
        return above()
    if (perhaps := _set_perhaps(x, name)) is not None and (default or _falls_through(x, name)):
        return _perhaps_set(*perhaps, x, name, *default)
    of_class = raw(type(x), name)
    if type(of_class) is property and of_class.fget is not None:
        hostcalls.check_asked(x)
        if insides.is_others(of_class.fget):
            reads.by_method(x, of_class.fget)
            return watching.asked(of_class.fget, x)
        return _computed(callee(of_class.fget), x, name, *default)
    own = own_dict(x)
    if type(of_class) is functools.cached_property and own is not None and name not in own:
        value = callee(of_class.func)(x)
        places.attribute(x, name)
        own[name] = value
    elif (get := own_method(of_class, "__get__")) is not None and not isinstance(x, type):
        if hasattr(type(of_class), "__set__") or name not in (own or ()):
            return callee(get)(of_class, x, type(x))
    elif insides.is_installed(get := raw(type(of_class), "__get__")):
        reads.by_method(x, get)
        reads.library(get, of_class, (x,))
    if type(x) is types.ModuleType and name not in vars(x) and of_class is MISSING and not is_library_module(x):
        reads.attribute(x, "__getattr__")
        if type(vars(x).get("__getattr__")) is types.FunctionType:
            return _or_default(callee(vars(x)["__getattr__"]), name, *default)
    if isinstance(x, type) and (get := own_method(raw(x, name), "__get__")) is not None:
        return callee(get)(raw(x, name), None, x)
    if isinstance(x, type) and insides.is_installed(get := raw(type(raw(x, name)), "__get__")):
        reads.library(get, raw(x, name), (x,))
    if of_class is MISSING:
        reads.special(x, "__getattr__")
    fallback = raw(type(x), "__getattr__") if of_class is MISSING else None
    there = raw(x, name) is not MISSING if isinstance(x, type) else name in (own_dict(x) or ())
    if type(fallback) is types.FunctionType and not there:
        others = insides.is_others(fallback)
        if others:
            reads.by_method(x, fallback)
        try:
            return watching.asked(fallback, x, name) if others else callee(fallback)(x, name)
        except AttributeError:
            if not default:
                raise
    get = raw(type(of_class), "__get__")
    if insides.is_others(get) and (hasattr(type(of_class), "__set__") or name not in (own or ())):
        return watching.asked(get, of_class, x, type(x))
    value = getattr(x, name, *default)
    if not callable(value):
        hostcalls.check_asked(x)
    return value


def _getter_above(x: Any, name: str) -> Callable[[], Any] | None:
    """What gives an attribute of `super()`, where that is a property or a descriptor of the user's."""
    mro = x.__self_class__.__mro__
    found = next((vars(k)[name] for k in mro[mro.index(x.__thisclass__) + 1 :] if name in vars(k)), MISSING)
    if type(found) is property and found.fget is not None:
        return functools.partial(callee(found.fget), x.__self__)
    get = own_method(found, "__get__")
    return None if get is None else functools.partial(callee(get), found, x.__self__, x.__self_class__)


def _computed(get: Callable[[Any], Any], x: Any, name: str, *default: Any) -> Any:
    """What a property gives, or where that has no such attribute, what comes in its place."""
    try:
        return get(x)
    except AttributeError:
        fallback = raw(type(x), "__getattr__")
        if type(fallback) is types.FunctionType:
            return _or_default(functools.partial(callee(fallback), x), name, *default)
        if not default:
            raise
    return default[0]


def _or_default(get: Callable[..., Any], name: str, *default: Any) -> Any:
    try:
        return get(name)
    except AttributeError:
        if not default:
            raise
    return default[0]


def _by_own_way(get: types.FunctionType, x: Any, name: str, *default: Any) -> Any:
    """An attribute of an object whose class has a `__getattribute__`."""
    try:
        return callee(get)(x, name)
    except AttributeError:
        fallback = own_method(x, "__getattr__")
        if fallback is None and not default:
            raise
    return default[0] if fallback is None else callee(fallback)(x, name)


def _method_of(x: Either, name: str) -> Callable[..., Any]:
    """A method of a tensor that has one of two shapes."""
    if not callable(getattr(Tensor, name, None)):
        x.fail()
    return lambda *args, **kwargs: choices.each_way(
        lambda y, *rest: called(load(y, name))(*rest, **kwargs), (x, *args), {}
    )


def _holders(x: Any) -> list[Any]:
    """The object and the classes among which Python looks for an attribute, one after the other."""
    return list(x.__mro__) if isinstance(x, type) else [x, *type(x).__mro__]


def _set_perhaps(x: Any, name: str) -> tuple[Any, Optional] | None:
    """What has the attribute if branches or loops have set it there, and its value; None if it is no such."""
    for h in _holders(x):
        own = vars(h) if isinstance(h, type) else own_dict(h) or {}
        if name in own:
            value = own[name]
            return (h, value) if type(value) is Optional and not value.none else None
    return None


def _falls_through(x: Any, name: str) -> bool:
    """Whether an attribute is found elsewhere too, if the first that has it has it no longer."""
    return sum(name in (vars(h) if isinstance(h, type) else own_dict(h) or {}) for h in _holders(x)) > 1


def _perhaps_set(holder: Any, value: Optional, x: Any, name: str, *default: Any) -> Any:
    """An attribute that branches or loops have set: where they have not, what Python finds in a class."""

    def unset() -> Any:
        places.attribute(holder, name)
        place = places.Attribute("attribute", name, holder, name)
        place.put(Undefined(name))
        try:
            return load(x, name, *default)
        finally:
            if type(place.get()) is Undefined:  # no cached property, which sets it
                place.put(value)

    return if_exp(value.flag, lambda: value.value, unset)


def _has(x: Any, name: str) -> bool:
    if not host.is_traced(x):
        reads.attribute(x, name)
    found = _set_perhaps(x, name)
    if found is None and not isinstance(x, Operand | type):
        of_class = raw(type(x), name)
        descriptor = type(of_class) is property or type(raw(type(of_class), "__get__")) is types.FunctionType
        if descriptor or (of_class is MISSING and type(raw(type(x), "__getattr__")) is types.FunctionType):
            return load(x, name, _set_perhaps) is not _set_perhaps
    return hasattr(x, name) if found is None or _falls_through(x, name) else found[1].flag  # type: ignore[no-any-return]


def assign(x: Any, name: str, value: Any) -> None:
    """What `object.__setattr__` does; setters of the user's are converted."""
    reads.special(x, name)
    of_class = raw(type(x), name)
    setter = raw(type(of_class), "__set__") if of_class is not MISSING else MISSING
    if type(of_class) is property and of_class.fset is not None:
        f = of_class.fset
        watching.asked(f, x, value) if insides.is_others(f) else callee(f)(x, value)
    elif type(setter) is types.FunctionType:
        hostcalls.check_set(x, setter, f"attribute {name}")
        callee(setter)(of_class, x, value)
    elif isinstance(x, type):
        places.attribute(x, name)
        type.__setattr__(x, name, value)
    else:
        places.attribute(x, name)
        object.__setattr__(x, name, value)


_replaced: dict[Any, Callable[..., Any]] = {
    builtins.range: range_, builtins.zip: zip_, builtins.enumerate: enumerate_, creation.range: tensor_range,
    builtins.print: host.print_python, builtins.len: _length, builtins.getattr: load, builtins.hasattr: _has,
    builtins.next: hostcalls.following,
}  # fmt: skip
PREPARED: list[tuple[Any, Callable[..., Any]]] = []  # by functions, what becomes of their arguments, or the result
keep: dict[str, Callable[..., Any]] = {}
WRAPPERS: dict[types.CodeType | None, Callable[..., Any]] = {}  # functions of Python's around the user's, by their code
_SLOTS = (types.WrapperDescriptorType, types.MethodWrapperType)


def replace(f: Any, by: Callable[..., Any]) -> None:
    """From now on `by` is called where the user's code calls `f`."""
    _replaced[f] = by


def callee(f: Any) -> Any:
    """The function to call in the place of `f`: converted if it is the user's."""
    if (other := hostcalls.replacement(f)) is not None:
        return other
    if type(f) is types.FunctionType:
        if f in _replaced:
            return _replaced[f]
        if f.__code__ in WRAPPERS:
            return functools.partial(WRAPPERS[f.__code__], f)
        if f.__name__ == "__eq__" and f.__code__.co_filename == "<string>":
            return functools.partial(keep["equal"], f)
        g = keep["convert"](f) if "convert" in keep else f
        return hostcalls.generator(g) if f.__code__.co_flags & inspect.CO_GENERATOR else g
    if type(f) is types.MethodType and type(f.__func__) is types.FunctionType:
        g = callee(f.__func__)
        return f if g is f.__func__ else types.MethodType(g, f.__self__)
    if type(f) is types.MethodType and type(f.__func__) is Cached:
        return functools.partial(keep["cached"](f.__func__), f.__self__)
    if isinstance(f, functools.partial):
        reads.whole(f.keywords)
        g = callee(f.func)
        return f if g is f.func else functools.partial(g, *f.args, **f.keywords)
    if isinstance(f, type):
        return _replaced.get(f) or keep["constructor"](f) or f
    if type(f) is Cached or type(getattr(f, "__self__", None)) is Cached:
        return keep["cached"](f)
    if isinstance(f, types.BuiltinFunctionType):
        if type(f.__self__) is str and (made := keep["string"](f)) is not None:
            return made
        if f.__name__ == "add_note" and isinstance(f.__self__, BaseException):
            return keep["note"](f)
        return keep["new"](f) if f.__name__ == "__new__" and isinstance(f.__self__, type) else _replaced.get(f, f)
    if type(f) in _SLOTS and (own := keep["slot"](f)) is not None:
        return own
    if type(f) in (operator.attrgetter, operator.itemgetter, operator.methodcaller):
        return keep["getter"](f)
    reads.special(f, "__call__")
    call = inspect.getattr_static(type(f), "__call__", None)
    if type(call) is types.FunctionType and "keep" not in type(f).__dict__:
        g = callee(call)
        return f if g is call else types.MethodType(g, f)
    return f


_CALLABLE = (types.FunctionType, types.MethodType, functools.partial, Cached)
LOOKING: list[Any] = [_length, load, _has, breakpoint]
_FIRST, _BEHIND, _SECOND = slice(1), slice(1, None), slice(1, 2)
# Functions that go through arguments, and where these stand.
_CONSUMERS = {
    **dict.fromkeys((list, tuple, set, frozenset, dict, sum, sorted, itertools.accumulate, itertools.islice), _FIRST),
    enumerate_: _FIRST, map: _BEHIND, filter: _BEHIND, functools.reduce: _SECOND, zip_: slice(None),
    itertools.chain: slice(None),
}  # fmt: skip
_HIGHER = {
    map, filter, sorted, functools.reduce, itertools.accumulate, itertools.starmap, itertools.takewhile,
    itertools.dropwhile, itertools.filterfalse, itertools.groupby,
}  # fmt: skip
_HANDING_ON = (
    list, tuple, collections.deque, iter, reversed, map, filter, functools.partial, functools.reduce, itertools.chain,
    itertools.islice, itertools.repeat, itertools.cycle, itertools.starmap, id,
)  # fmt: skip
_MAKERS = (list, dict, set, collections.deque, collections.defaultdict, collections.OrderedDict)
TEXTS, NUMBERS = "tracejit.autograph.texts", "tracejit.autograph.numbers"
_NUMBER = frozenset(insides.NUMBER)
_BY_FRAME = {"inspect", "logging", "pdb", "sys", "traceback", "warnings"}  # what they do depends on who calls


def called(f: Any) -> Any:
    """`callee`, for a call."""
    if type(f) is Chosen:
        return lambda *args, **kwargs: choices.for_each(f, lambda h: called(h)(*args, **kwargs))
    g = _heard(f)
    if several.there:
        g = choices.called(f, g)
    return functools.partial(_of_both, g) if uneven.there else g


def _of_both(g: Any, *args: Any, **kwargs: Any) -> Any:
    return choices.each_way(g, args, kwargs)


def _heard(f: Any) -> Any:
    """The same: containers that go to code that is not converted count as read, with all that they hold."""
    g = callee(f)
    h = g.func if isinstance(g, functools.partial) else g
    h = h.__func__ if type(h) is types.MethodType else h
    if not reads.active() or hasattr(h, "ag_original") or hasattr(h, "python_function"):
        return g
    if any(h is x for x in LOOKING):
        return g
    if getattr(h, "__module__", None) in _BY_FRAME:
        if (logger := _of_others(g, h)[0]) is not None:
            reads.state(logger)
        reads.library(h, getattr(g, "__self__", None), ())
        return g

    if (change := mutations.changing(h)) is not None and h is g:
        return change
    module = str(getattr(h, "__module__", None))
    ours, grown = module.startswith("tracejit."), growing.has_grown if module == TEXTS else growing.is_grown
    owner, whole = (None, False) if ours else _of_others(g, h)
    if module == "tracejit.optimizers.schedules":
        owner = getattr(g, "__self__", g)
    prepare = next((p for k, p in PREPARED if h is k), None)

    def call(*args: Any, **kwargs: Any) -> Any:
        hostcalls.check_said(h if h is g else f, args)
        if (made := listops.consumed(f, args, kwargs)) is not listops.OPEN:
            return made
        if prepare is not None and args:
            made, args, kwargs = prepare(*args, **kwargs)
            if args is None:
                return made
        if ours:
            places.looked_at(h, args, kwargs)
            if (of_list := listops.of_list(h, args, kwargs)) is not listops.OPEN:
                return of_list
            args = tuple([_given(g, x) for x in args])
            if getattr(h, "__name__", "") == "map_structure":
                args = (*map(callee, args[:1]), *args[1:])
            reads.state(*args, asks=insides.NUMBER)
        elif insides.reads_objects(h) or whole:
            reads.state(*args, *kwargs.values())
        elif not any(h is c for c in _HANDING_ON):
            of = getattr(h, "__self__", None)
            reads.state(*args, *kwargs.values(), *([of] if isinstance(of, insides.HOLDING) else ()), asks=insides.ANY)
        if owner is not None:
            reads.by_method(owner, h)
        reads.library(h, getattr(g, "__self__", None), args)
        if not ours and not any(h is c for c in (*_HIGHER, *_HANDING_ON)):
            reads.called_back((*args, *kwargs.values()))
        given = arrays.among([args, kwargs])
        for x in (*args, *kwargs.values()):
            if not (ours and grown(x)):
                reads.whole(x)
        if any(g is c for c in _HIGHER):
            args = tuple([handed(x) if isinstance(x, _CALLABLE) or x is str or x is repr else x for x in args])
            kwargs = {k: handed(x) if isinstance(x, _CALLABLE) else x for k, x in kwargs.items()}
        if (at := next((w for c, w in _CONSUMERS.items() if g is c), None)) is not None:
            through = [keep["iterated"](x) for x in args[at]]
            for x in through:
                hostcalls.check_iterator(x)
            args = (*args[: at.start or 0], *through, *args[(at.start or 0) + len(through) :])
        elif not ours:
            hostcalls.check_given(h, [*args, *kwargs.values()])
        if ours:
            asked = () if any(isinstance(x, _CALLABLE) for x in args) else specials.among(args, _NUMBER)
            converts = asked and module.startswith("tracejit.autograph.") and module != NUMBERS
            made = g(*args, **kwargs) if converts else backcalls.calling_back(asked, g, *args, **kwargs)
            made = hostcalls.result(made, args)
            arrays.used(given, made, True)
            return made
        if not _is_error(h):
            for x in (*args, *kwargs.values()):
                if isinstance(x, host.Text):
                    str(x)  # which says that it is not known yet
        every = (h, *args, *kwargs.values())
        before, told = arrays.copies(every, kwargs), context.refused
        watch = watching.watched(g, args, kwargs, True)
        try:
            with mutations.noticed(every), mutations.keeping(g, every[1:]):
                made = hostcalls.result(g(*args, **kwargs), args)
        except Exception:
            if watch is not None:
                watch.fail()
            arrays.used(given, None)
            raise
        if watch is not None:
            watch.end(made, lambda: g(*args, **kwargs))
        watching.given_alone(h, made)
        if context.refused is not told and context.refused is not None:  # and it went on without the value
            raise context.refused
        arrays.unchanged(before)
        arrays.used(given, made)
        arrays.of_method(h, made)
        if type(made) in _MAKERS and (h in _MAKERS if isinstance(h, type) else getattr(h, "__name__", "") == "copy"):
            places.made(made)
        elif isinstance(made, tuple) and hasattr(type(made), "_fields"):
            places.born(made)  # nothing of it changes, whoever has it
        return arrays.fresh(made, every) if _is_numpys(h) else made

    return call


def handed(f: Any) -> Any:
    """`callee`, for a function that another calls."""
    g = callee(f)
    return called(f) if g is f and isinstance(f, _CALLABLE) and insides.is_others(getattr(f, "__func__", f)) else g


def _of_others(g: Any, h: Any) -> tuple[Any, bool]:
    """The object whose method is called, if what it holds counts as read; and whether that holds of the arguments."""
    inner = g.func if isinstance(g, functools.partial) else g
    owner = getattr(inner, "__self__", g)
    if type(h) is not types.FunctionType:
        return (owner if insides.holds_state(owner) else None), False
    inner = h.__dict__.get("ag_written")
    if type(inner) is types.FunctionType:  # not to be converted
        reads.unconverted(inner)
        return (owner if owner is not h else None), True
    if owner is h or not insides.holds_state(owner):
        owner = None
    return owner, not is_library(h) and not keep["inside"](h)


def _given(f: Any, x: Any) -> Any:
    """A list that grows as a tensor, which all of this package's own functions take but those that make texts."""
    if f is zip_ or f is enumerate_:
        return items_of(x) if growing.is_grown(x) else x
    as_it_is = f is array.stack or getattr(f, "__module__", None) == TEXTS
    return growing.rows_of(x) if growing.is_grown(x) and not as_it_is else x


def _is_error(f: Any) -> bool:
    """Whether a call makes an error, or fills it."""
    return isinstance(getattr(f, "__self__", None), BaseException) or (
        isinstance(f, type) and issubclass(f, BaseException)
    )


def _is_numpys(f: Any) -> bool:
    module = str(getattr(f, "__module__", None) or "")
    of_array = isinstance(getattr(f, "__self__", None), np.ndarray)
    return of_array or type(f) is np.ufunc or module.split(".")[0] == "numpy"


def converted(f: Any) -> Any:
    """Marks a function that stands in converted code."""
    f.ag_original = f
    return f
