"""Functions of Python's that do what others do: generic ones, getters, and what stands behind attributes."""

from __future__ import annotations

import builtins
import contextlib
import functools
import inspect
import operator
import os
import types
from collections.abc import Callable
from typing import Any

from tracejit.autograph import calls, places, reads
from tracejit.autograph.calls import WRAPPERS, assign, called, callee, load, replace
from tracejit.autograph.owners import is_users
from tracejit.runtime.guards import raw


# --- functions around others ------------------------------------------------------------------------------------------
def _dispatched(f: Any, first: Any, *args: Any, **kwargs: Any) -> Any:
    """A generic function of `functools.singledispatch`."""
    reads.registry(f)
    reads.related(type(first), f.registry)
    return called(f.dispatch(type(first)))(first, *args, **kwargs)


def _dispatched_method(f: Any, first: Any, *args: Any, **kwargs: Any) -> Any:
    """A method of `functools.singledispatchmethod`."""
    own = dict(zip(f.__code__.co_freevars, [c.cell_contents for c in f.__closure__], strict=True))
    reads.registry(own["self"].dispatcher)
    reads.related(type(first), own["self"].dispatcher.registry)
    method = own["self"].dispatcher.dispatch(type(first))
    return called(method.__get__(own["obj"], own["cls"]))(first, *args, **kwargs)


def _managed(f: Any, *args: Any, **kwargs: Any) -> Any:
    """What `contextlib.contextmanager` makes of a generator."""
    return contextlib._GeneratorContextManager(callee(f.__wrapped__), args, kwargs)


_of_class = functools.singledispatchmethod(len).__get__(None, object)
WRAPPERS.update({
    getattr(_of_class, "__code__", None): _dispatched_method,
    functools.singledispatch(len).__code__: _dispatched,  # type: ignore[attr-defined]
    contextlib.contextmanager(len).__code__: _managed,  # type: ignore[attr-defined, arg-type]
})  # fmt: skip


# --- attributes -------------------------------------------------------------------------------------------------------
def _slot(f: Any) -> Callable[..., Any] | None:
    """What to call in the place of what `object` and `type` do where attributes are read, set and deleted."""
    if f is object.__delattr__ or f is type.__delattr__:
        return functools.partial(_unset, f)
    if f is object.__setattr__ or f is type.__setattr__:
        return assign
    if f is type.__call__:
        return _by_type
    if f is object.__getattribute__:
        return _generic
    if type(f) is types.MethodWrapperType and f.__objclass__ in (object, type):
        if f.__name__ == "__setattr__":
            return functools.partial(assign, f.__self__)
        if f.__name__ == "__call__" and isinstance(f.__self__, type) and is_users(f.__self__):
            return types.MethodType(calls.keep["construct"], f.__self__)
        if f.__name__ == "__getattribute__" and f.__objclass__ is object:
            return functools.partial(_generic, f.__self__)
    if type(getattr(f, "__self__", None)) is types.MemberDescriptorType and f.__name__ == "__set__":
        return functools.partial(_set_slot, f.__self__)
    return None


def _by_type(cls: type, /, *args: Any, **kwargs: Any) -> Any:
    """What `type.__call__` does."""
    return (calls.keep["construct"] if is_users(cls) else type.__call__)(cls, *args, **kwargs)


def _set_slot(slot: types.MemberDescriptorType, x: Any, value: Any) -> None:
    """What the `__set__` of a slot does."""
    if raw(type(x), slot.__name__) is slot:
        assign(x, slot.__name__, value)
    else:
        slot.__set__(x, value)


def _generic(x: Any, name: str) -> Any:
    """What `object.__getattribute__` does."""
    reads.attribute(x, name)
    of_class = raw(type(x), name)
    if type(of_class) is property and of_class.fget is not None:
        return callee(of_class.fget)(x)
    return object.__getattribute__(x, name)


def _unset(delete: Callable[..., None], x: Any, name: str) -> None:
    """What `object.__delattr__` does."""
    places.attribute(x, name)
    delete(x, name)


def _got_attributes(made: Any, x: Any) -> Any:
    """What an `operator.attrgetter` gives, which is told by how it is pickled."""
    found = tuple([functools.reduce(load, path.split("."), x) for path in made[1]])
    return found if len(found) > 1 else found[0]


def _got_items(made: Any, x: Any) -> Any:
    """The same of an `operator.itemgetter`."""
    found = tuple([calls.keep["item"](x, key) for key in made[1]])  # type: ignore[call-arg]
    return found if len(found) > 1 else found[0]


def _method_called(made: Any, x: Any) -> Any:
    """The same of an `operator.methodcaller`."""
    make, args = made
    given: list[Any] = [*getattr(make, "args", ()), *args]
    name, more = given[0], given[1:]
    return called(load(x, name))(*more, **getattr(make, "keywords", {}))


def _variables(*x: Any) -> Any:
    """Python's `vars`."""
    return load(x[0], "__dict__") if x else vars()


def _environment(*args: Any, **kwargs: Any) -> Any:
    """`os.getenv`."""
    reads.whole(os.environ)
    return os.getenv(*args, **kwargs)


def _directory(*x: Any) -> list[str]:
    """Python's `dir`."""
    for y in x:
        if (f := calls.own_method(y, "__dir__")) is not None:
            return places.made(sorted(callee(f)(y)))  # type: ignore[no-any-return]
        reads.members(y)
    return places.made(dir(*x))  # type: ignore[no-any-return]


def _static(x: Any, name: str, *default: Any) -> Any:
    """`inspect.getattr_static`."""
    reads.attribute(x, name)
    return inspect.getattr_static(x, name, *default)


def _callable(x: Any) -> bool:
    """Python's `callable`."""
    reads.special(x, "__call__")
    return callable(x)


def _getter(f: Any) -> Callable[..., Any]:
    """What to call in the place of what `operator` makes to get attributes or items, or to call methods."""
    kinds = {operator.attrgetter: _got_attributes, operator.itemgetter: _got_items}
    return functools.partial(kinds.get(type(f), _method_called), f.__reduce__())


def _members(x: Any, *args: Any) -> Any:
    """`inspect.getmembers`."""
    reads.state(x)
    return inspect.getmembers(x, *args)


def _signature(f: Any, **kwargs: Any) -> Any:
    """`inspect.signature`."""
    reads.function(getattr(f, "__func__", f))
    return inspect.signature(f, **kwargs)


calls.keep.update(slot=_slot, getter=_getter)
replace(inspect.getmembers, _members)
replace(inspect.signature, _signature)
replace(builtins.callable, _callable)
replace(builtins.vars, _variables)
replace(builtins.dir, _directory)
replace(inspect.getattr_static, _static)
replace(os.getenv, _environment)
