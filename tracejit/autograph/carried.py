"""What an error takes along that the program raises: arguments, attributes and causes, with the values of the run."""

from __future__ import annotations

import copy
import functools
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from tracejit.autograph import failures, reads, watching
from tracejit.autograph.calls import keep
from tracejit.autograph.chosen import Chosen
from tracejit.autograph.effects import Fill, filled
from tracejit.autograph.holders import Outside
from tracejit.autograph.recipes import Recipes
from tracejit.context import context, tracing
from tracejit.errors import Location, TracejitError, calls, is_internal, location_at, parts, trim
from tracejit.frames import raise_at
from tracejit.ops.host import Callback, Text, host_call, is_traced
from tracejit.runtime.guards import raw
from tracejit.tensor import Operand, Tensor, Variable, convert, quietly, wrap
from tracejit.tree import attributes_of, own_slots

_CONTAINERS: Any = (list, dict, set)
_OF_CLASSES = 1 << 9  # the flag of classes that are not C's


def result_of(f: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """What a traced function returns; None where it always raises an error that only the program can make."""
    try:
        return f(*args, **kwargs)
    except failures.Unreachable:
        return None
    except Exception as e:
        raised = failures.MARK in e.__dict__
        if not (raised and _holds_traced(e)) and not ((raised or failures.is_users_error(e)) and _acts()):
            _unmark(e)
            raise
        _raise_later(e)
        return None


def _acts() -> bool:
    """Whether the program does something, or fails, before it comes here."""
    trace: Any = context.trace
    return trace is not None and any(not n.pure for n in trace.builder.nodes)


def _unmark(e: BaseException) -> None:
    """Take back what was noted down of an error that leaves the function as it is, and of those that led to it."""
    for y in (e, e.__cause__, e.__context__):
        if y is not None and y.__dict__.pop(failures.MARK, None) and y is not e:
            _unmark(y)


def _raise_later(e: Exception) -> None:
    lines = [] if isinstance(e, TracejitError) else _lines(e, sys._getframe(2))  # those know their lines
    own: dict[int, Any] = {}
    _take(e, own)
    made = _Errors(context.trace, Outside(set(own)), {}, set(), {})  # type: ignore[arg-type]
    made.loc = lines[-1] if lines else None
    fill = made.error(e)

    def run(*arrays: Any) -> tuple[()]:
        values = [wrap(quietly(array.copy)) for array in arrays]
        with tracing(None):
            new = fill(values, {})
        raise_at(lines, new)
        return ()

    host_call(*[wrap(v) for v in made.results], f=Callback(run, f"raise {type(e).__name__}"), types=())


failures.later.append(_raise_later)


def _noting(f: Any) -> Callable[[Any], None]:
    """`add_note` of an error, which takes texts with tensors too."""

    def add_note(note: Any) -> None:
        if not isinstance(note, Text) or reads.label(f.__self__.__dict__.get("__notes__")) is not None:
            f(note)
        else:
            f("")
            f.__self__.__notes__[-1] = note

    return add_note


keep["note"] = _noting


def _lines(e: BaseException, around: FrameType | None) -> list[Location]:
    """The user's lines that the traceback of an error goes through, with those of the calls around it."""
    found = [(f, at) for f, at in failures.frames_of(e) if not is_internal(f.f_code.co_filename)]
    inner = bool(found) and found[0][0].f_code in parts
    outer = calls(around, inner)  # the error of an `assert` comes from a function of ours on its line
    own = [x for i, x in enumerate(found, 1) if i == len(found) or found[i][0].f_code not in parts]
    return [*reversed(outer), *[location_at(f, at) for f, at in own]]


# --- what an error holds ----------------------------------------------------------------------------------------------
def _holds_traced(e: BaseException) -> bool:
    """Whether an error tells of tensors that are known only when the program runs."""
    own: dict[int, Any] = {}
    _take(e, own)
    return any(_waits(y) for x in own.values() for y in _parts(x))


def _waits(x: Any) -> bool:
    return is_traced(x) or isinstance(x, (Text, Chosen))


def _take(x: Any, own: dict[int, Any]) -> bool:
    """Whether the function has made something, or what it holds, rather than found it; each such thing in `own`."""
    if id(x) in own or _waits(x):
        return True
    if isinstance(x, tuple):
        if any([_take(y, own) for y in x]):  # noqa: C419
            own[id(x)] = x
        return id(x) in own
    if isinstance(x, _CONTAINERS):
        made = watching.is_own(x) or reads.label(x) is None  # which those have too that objects of its own hold
        made = made or (_has_traced(x, {}) and not reads.is_changed(x))
    elif isinstance(x, BaseException) and own:  # one that led to another
        own[id(x)] = x
        made = any([_take(y, own) for y in _parts(x)]) or watching.is_own(x)  # noqa: C419
        del own[id(x)]
    else:
        made = isinstance(x, BaseException) or _is_made(x)
    if not made:
        return False
    own[id(x)] = x
    for y in _parts(x):
        _take(y, own)
    return True


def _has_traced(x: Any, seen: dict[int, Any]) -> bool:
    """Whether there are traced tensors in containers within one another."""
    if not isinstance(x, (*_CONTAINERS, tuple)) or id(x) in seen:
        return _waits(x)
    seen[id(x)] = x
    return any(_has_traced(y, seen) for y in _parts(x))


def _is_made(x: Any) -> bool:
    if isinstance(x, (Operand, type, types.FunctionType)):
        return False
    return bool(type(x).__flags__ & _OF_CLASSES) and watching.is_own(x)


def _parts(x: Any) -> Iterable[Any]:
    if isinstance(x, BaseException):
        return [*x.args, *_state(x).values(), *_led(x)]
    return x.values() if isinstance(x, dict) else x if isinstance(x, (list, tuple, set)) else attributes_of(x).values()


def _state(x: BaseException) -> dict[str, Any]:
    """What an error keeps beside its arguments, also what its class of C's keeps."""
    every = [*own_slots(type(x)), *[k for c in _bases(x)[:-3] for k, m in vars(c).items() if type(m) is _COMPUTED]]
    return {k: getattr(x, k) for k in every if hasattr(x, k)} | {k: v for k, v in vars(x).items() if k != failures.MARK}


_COMPUTED = types.GetSetDescriptorType


def _bases(x: Any) -> list[type]:
    """The classes of C's that an object's class is made from, the nearest first."""
    return [c for c in type(x).__mro__ if not c.__flags__ & _OF_CLASSES]


def _led(x: BaseException) -> list[BaseException]:
    """The errors that led to this one, as the traceback of it shows."""
    context = x.__context__
    known = context is not None and failures.MARK in context.__dict__
    return [y for y in (x.__cause__, context if known else None) if y is not None]


# --- recipes ----------------------------------------------------------------------------------------------------------
class _Errors(Recipes):
    """Recipes that make errors, each of them once. They hold nothing of what the errors hold: what others hold counts
    as theirs when the trace ends."""

    def of(self, x: Any) -> Fill:
        if isinstance(x, Variable) and _is_assigned(x):  # which a call that raises takes back
            return super().of(convert(x))
        key = id(x)
        if key in self._doing and not isinstance(x, Operand):
            return lambda values, made: made[key]
        if not isinstance(x, BaseException) or key in self.outside:
            return super().of(x)
        error, lines = self.error(x), _lines(x, None)
        return lambda values, made: made[key] if key in made else _with_traceback(error(values, made), lines)

    def error(self, x: BaseException) -> Fill:
        key, kind, base, led = id(x), type(x), _bases(x)[0], _led(x)
        self._doing.add(key)
        args, state = [self.of(y) for y in x.args], {k: self.of(y) for k, y in _state(x).items()}
        before = {k: self.of(y) for k in ("__cause__", "__context__") if (y := getattr(x, k)) in led}
        self._doing.discard(key)

        def fill(values: Sequence[Tensor], made: dict[int, Any]) -> Any:
            own = tuple([f(values, made) for f in args])
            made[key] = new = base.__new__(kind, *own)  # what its own class does to make one it has done
            object.__setattr__(new, "args", own)
            for k, f in [*before.items(), *state.items()]:
                _put(new, k, f(values, made))
            return new

        return fill

    def _fresh(self, x: Any) -> bool:
        return True  # what the function has made, each call has to make

    def inside(self, x: Any, known_as: Any = None) -> Fill:
        key, make = id(x), _maker(x)
        self._doing.add(key)
        items = self._items(x)
        self._doing.discard(key)

        def fill(values: Sequence[Tensor], made: dict[int, Any]) -> Any:
            if key not in made and isinstance(make, type):
                own = [f(values, made) for _, f in items]
                made[key] = make(*own) if hasattr(make, "_fields") else make(own)
            elif key not in made:
                made[key] = new = make()
                filled(new, [(k, f(values, made)) for k, f in items])
            return made[key]

        return fill


def _maker(x: Any) -> Callable[..., Any]:
    """What makes an empty container or object like this one; for a tuple, its class."""
    if isinstance(x, tuple):
        return type(x)
    kind = next((k for k in (*_CONTAINERS, deque) if isinstance(x, k)), None)
    if kind is None:
        return functools.partial(_bases(x)[0].__new__, type(x))
    empty = copy.copy(x)
    kind.clear(empty)
    return functools.partial(copy.copy, empty)


def _is_assigned(v: Variable) -> bool:
    trace: Any = context.trace
    while trace is not None and (id(v) not in trace.env or trace.env[id(v)] is trace.reads.get(id(v), (v, None))[1]):
        trace = trace.parent
    return trace is not None


def _put(e: BaseException, name: str, value: Any) -> None:
    if _is_slot(e, name):
        if getattr(e, name, None) is value:
            return
        with suppress(AttributeError, TypeError):  # it is made of the arguments
            object.__setattr__(e, name, value)
    else:
        e.__dict__[name] = value


def _is_slot(e: BaseException, name: str) -> bool:
    return type(raw(type(e), name)) in (types.MemberDescriptorType, types.GetSetDescriptorType)


def _with_traceback(e: BaseException, lines: list[Location]) -> BaseException:
    before = e.__context__, e.__cause__, e.__suppress_context__
    try:
        raise_at(lines, e)
    except BaseException as raised:
        assert raised is e
        e.with_traceback(trim(e.__traceback__))
    for name, value in zip(("__context__", "__cause__", "__suppress_context__"), before, strict=True):
        object.__setattr__(e, name, value)
    return e
