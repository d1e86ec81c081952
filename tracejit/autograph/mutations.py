"""Containers that are changed by calls that do not look like it: `list.append(x, y)`, `operator.setitem(x, k, y)`, …"""

from __future__ import annotations

import array
import collections
import contextvars
import functools
import gc
import operator
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tracejit.autograph import (
    backcalls,
    branches,
    dicts,
    failures,
    growing,
    hostcalls,
    listops,
    places,
    reads,
    specials,
)
from tracejit.autograph.deferring import NO_RESULT
from tracejit.autograph.owners import is_users
from tracejit.autograph.reads import MOST
from tracejit.autograph.recorder import TAKING, Recorder
from tracejit.errors import ConversionError, locate, user_frame
from tracejit.ops.host import is_traced
from tracejit.tensor import Operand
from tracejit.tree import flatten

_CONTAINERS = (list, dict, set, collections.deque)
_CHANGES = NO_RESULT | TAKING | {"setdefault"}
_ITEM = {"__setitem__": False, "__delitem__": True}
_OPERATORS = {"+": "__iadd__", "*": "__imul__", "-": "__isub__", "&": "__iand__", "|": "__ior__", "^": "__ixor__"}
_BY_OPERATOR = {name: op for op, name in _OPERATORS.items()}
# methods that go through what they are given, and those after which items stand where they stood
_FILLING = {
    "extend", "extendleft", "update", "subtract", "difference_update", "intersection_update",
    "symmetric_difference_update", "__iadd__", "__ior__",
}  # fmt: skip
_STEADY = {"append", "extend", "add", "setdefault"}
_OF_BYTES = {
    "append", "extend", "insert", "pop", "remove", "clear", "reverse", "__setitem__", "__delitem__", "__iadd__",
    "__imul__",
}  # fmt: skip
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))


def mutated(
    recorder: Recorder, x: Any, name: str, unused: bool, args: tuple, kwargs: dict[str, Any],
    do: Callable[..., Any] | None = None,
) -> Any:  # fmt: skip
    """A method of a container that may change what it holds is called; `do` is that of the container's base class."""
    _read(x, name, unused, args)
    if name in _FILLING:
        hostcalls.check_given(None, args)
        args = tuple([_gone_through(recorder, x, y) for y in args])
    elif name == "__setitem__":
        args = args[0], _gone_through(recorder, x, args[1])
    carried = growing.is_grown(x) and (id(x) in recorder.made or recorder.elsewhere)
    own = carried and listops.method(x, name, args, kwargs)
    if growing.is_grown(x) and not own:
        growing.can_call(x, name)
    elif growing.is_partial(x):
        dicts.can_call(name)
    if recorder.defers(x, name, unused):
        return recorder.defer(x, name, args, kwargs)
    places.remember_items(x)
    recorder.calls(x, name, args, kwargs)
    try:
        call = functools.partial(own, x) if own else getattr(x, name) if do is None else do
        value = backcalls.calling_back(_asked(x, name, args), call, *args, ag_but=x, **kwargs)
    except Exception:
        places.failed(x)
        raise
    if name not in _STEADY:
        reads.moved(x)
    growing.noted(x)
    if name in TAKING and not unused and not recorder.elsewhere:
        recorder.takes(x, value, user_frame(2))
    return value


def _asked(x: Any, name: str, args: tuple) -> list[Any]:
    """The methods of the user's that a container's own may call."""
    if isinstance(x, list | collections.deque) and name not in ("sort", "remove", "extend", "__iadd__"):
        return []
    names = specials.ORDER | specials.ITEMS if name in _FILLING else specials.ORDER
    return specials.among((*args, x) if name in ("sort", "remove") else args, names)


def _read(x: Any, name: str, unused: bool, args: tuple) -> None:
    """What a method's result depends on, or whether it raises an error that is caught."""
    if name in TAKING:
        reads.length(x)
    if name == "setdefault":
        reads.item(x, args[0])
        reads.contains(x, args[0])
    elif name == "popitem" or (name == "pop" and isinstance(x, set)):
        reads.filled_from(x, x) if unused else reads.whole(x)
    elif name in ("pop", "remove") and args and isinstance(x, (dict, set)):
        if failures.is_caught() or not unused:
            reads.contains(x, args[0])
    elif name == "remove" and failures.is_caught():
        reads.whole(x)


def _gone_through(recorder: Recorder, owner: Any, x: Any) -> Any:
    """What a container is filled from: iterators are gone through once, what the function has made may change later."""
    if isinstance(x, (Iterator, *_VIEWS)) or (is_users(type(x)) and not isinstance(x, (*_CONTAINERS, tuple, str))):
        hostcalls.check_iterator(x)
        return tuple(branches.asks["iterated"](x)) if hasattr(type(x), "__iter__") and not hasattr(x, "keys") else x
    if not isinstance(x, _CONTAINERS):
        return x
    if id(x) not in recorder.made:
        if id(owner) in recorder.made:
            reads.whole(x)
        elif (before := places.before(x)) is not None:  # of a branch or loop, which the program knows by its state
            reads.items_kept(x, before)
            return list(x) if isinstance(x, collections.deque) else places.snapshot(x)
        else:
            reads.filled_from(owner, x)
        return x
    new = x if growing.is_pile(x) else places.snapshot(x)
    growing.noted(new)
    return new


def operated(op: str, a: Any, b: Any, do: Callable[[Any, Any], Any]) -> Any:
    """`a op= b` of one of Python's containers, which may change it in place."""
    recorder, name = places.listener(), _OPERATORS.get(op, "")
    if recorder is None or not name or not hasattr(type(a), name):
        return do(a, b)
    if name in _FILLING and not isinstance(a, set):
        b = _gone_through(recorder, a, b)
    if op == "*" and recorder.elsewhere:
        reads.whole(a)
    places.remember_items(a)
    recorder.calls(a, name, (b,), {})
    try:
        made = do(a, b)
    except Exception:
        places.failed(a)
        raise
    if made is not a:
        recorder.retract(a)
    elif op != "+":
        reads.moved(a)
    return made


def sliced(x: Any, key: Any) -> bool:
    """Whether what is done to a slice is done again by each call, with the list as it is then."""
    if type(key) is not slice or places.listener() is None or not isinstance(x, list):
        return False
    return not growing.is_grown(x) and places.is_container(x, "__setitem__") and places.is_container(x, "__delitem__")


def by_slice(x: Any, name: str, key: slice, *value: Any) -> None:
    """An item assignment or deletion by a slice."""
    parts = [k if k is None else operator.index(k) for k in (key.start, key.stop, key.step)]
    mutated(places.listener(), x, name, True, (slice(*parts), *value), {})


def check_bytes(x: Any) -> None:
    """Refuse to change bytes that were there before, or that a branch or loop changes: nothing is told of these."""
    listener = places.listener()
    if isinstance(x, bytearray | array.array) and listener is not None:
        if listener.elsewhere or not places.is_made(x):
            raise locate(ConversionError(f"a {type(x).__name__} is changed that was there before"))


def changing(f: Any) -> Callable[..., Any] | None:
    """What to call in the place of a container's own method that changes it; None for all else."""
    name = getattr(f, "__name__", None)
    if isinstance(getattr(f, "__self__", None), bytearray) and name in _OF_BYTES:
        check_bytes(f.__self__)
    if name not in _CHANGES and name not in _ITEM and name not in _BY_OPERATOR:
        return None
    if isinstance(f, types.MethodDescriptorType | types.WrapperDescriptorType):
        return functools.partial(_unbound, f) if issubclass(f.__objclass__, _CONTAINERS) else None
    if isinstance(f, types.BuiltinFunctionType | types.MethodWrapperType) and isinstance(f.__self__, _CONTAINERS):
        return functools.partial(_change, f.__self__, f)
    return None


def _unbound(f: Any, *args: Any, **kwargs: Any) -> Any:
    if not args or not isinstance(args[0], _CONTAINERS):
        return f(*args, **kwargs)  # which raises what Python does
    return _change(args[0], functools.partial(f, args[0]), *args[1:], ag_name=f.__name__, **kwargs)


def _change(owner: Any, do: Callable[..., Any], *args: Any, ag_name: str = "", **kwargs: Any) -> Any:
    name = ag_name or do.__name__
    if places.listener() is None:
        return do(*args, **kwargs)
    if name in _BY_OPERATOR and len(args) == 1:
        return operated(_BY_OPERATOR[name], owner, args[0], lambda a, b: do(b))
    if name in _ITEM and not (args and sliced(owner, args[0])):
        if args:
            places.items(owner, args[0], _ITEM[name])
        try:
            return do(*args, **kwargs)
        except Exception:
            places.failed(owner)
            raise
    return mutated(places.listener(), owner, name, False, args, kwargs, do)


@contextmanager
def noticed(given: Iterable[Any]) -> Iterator[None]:
    """A call of code that is not converted: containers that it is given may be others after it."""
    before = [(x, places.snapshot(x)) for x in _containers(given)] if places.listener() is not None else []
    try:
        yield
    finally:  # where the call fails, what it has done until then
        for x, old in before:
            if not _same(x, old):
                new = places.snapshot(x)
                places.refill(x, old)
                places.items(x)  # takes note of what it holds
                places.refill(x, new)


@contextmanager
def keeping(f: Any, given: Iterable[Any]) -> Iterator[None]:
    """The same of tensors that an object of a library's, which was there before, would keep: they are the trace's."""
    owner = None if isinstance(f, _FUNCTIONS) else getattr(f, "__self__", f)
    tensors = {id(x) for x in flatten(list(given))[0] if is_traced(x)} if owner is not None else set()
    if not tensors or isinstance(owner, _NOT_KEEPING) or _is_ours(owner):
        yield
        return
    before = [(x, places.snapshot(x)) for x in _held_by(owner) if isinstance(x, _CONTAINERS)]
    yield
    if any(id(x) in tensors for x in _held_by(owner)):
        for x, old in before:
            places.refill(x, old)
        what = f"{getattr(f, '__name__', 'a call')}() lets a {type(owner).__name__} keep a tensor"
        raise locate(ConversionError(what))


_FUNCTIONS = (types.FunctionType, type, functools.partial)
_NOT_KEEPING = (*_CONTAINERS, types.ModuleType, np.ndarray, Operand, BaseException, str, tuple, type)
_LARGEST = 2000  # objects that are looked at


def _is_ours(x: Any) -> bool:
    listener = places.listener()
    own = str(type(x).__module__).startswith("tracejit.")
    return own or listener is None or id(x) in listener.made or id(x) in listener.built


def _held_by(owner: Any) -> list[Any]:
    """What an object holds, and what that holds."""
    found, todo = {id(owner): owner}, [owner]
    for x in todo:
        if isinstance(x, contextvars.ContextVar):
            parts = [x.get(None)]
        else:
            parts = [] if isinstance(x, _LEAVES) else gc.get_referents(x)
        for y in parts:
            if id(y) not in found and len(found) < _LARGEST:
                found[id(y)] = y
                todo.append(y)
    return todo


_LEAVES = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, Operand, np.ndarray)


def _containers(given: Iterable[Any]) -> list[Any]:
    """The containers among these, and those that methods among these are of."""
    every = [y for x in given for y in (x.__reduce__()[1] if type(x) in (map, filter) else [x])]
    found = [x.__self__ if isinstance(x, types.BuiltinFunctionType | types.MethodWrapperType) else x for x in every]
    made = places.listener().made
    return [x for x in found if isinstance(x, _CONTAINERS) and len(x) <= MOST and id(x) not in made]


def _pairs(x: dict[Any, Any]) -> Iterable[tuple[Any, Any]]:
    return (collections.OrderedDict if isinstance(x, collections.OrderedDict) else dict).items(x)


def _same(x: Any, old: Any) -> bool:
    """Whether a container holds the very objects that it held, in their order."""
    if len(x) != len(old):
        return False
    if isinstance(x, dict):
        return all(a is c and b is d for (a, b), (c, d) in zip(_pairs(x), _pairs(old), strict=True))
    return x == old if isinstance(x, set) else all(a is b for a, b in zip(x, old, strict=True))
