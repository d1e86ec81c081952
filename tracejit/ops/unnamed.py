"""Variables that a function which stays Python reaches though its code does not name them: told where that is wrong."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tracejit import forks
from tracejit.context import context
from tracejit.errors import ControlFlowError, locate
from tracejit.tensor import Operand, Variable, wrap
from tracejit.tracing import Trace

_SLOT: Any = Operand.__dict__["_a"]  # where a Variable's array lies
_CLASS: Any = object.__dict__["__class__"]
_lock = forks.lock()
_classes: dict[type, type] = {}
_calls: dict[int, list[Call]] = {}  # that are under way, by the identities of Variables that may not be read in them


class Unnamed:
    """What the program does with the other Variables that it holds: those that it has assigned by the time of the call,
    which hold what they held before, and those that it goes on with after it."""

    __slots__ = ("_before", "_named", "_read_after", "_traces", "assigned", "kept")

    def __init__(self, named: Collection[Variable]) -> None:
        self._named = {id(v) for v in named}
        self._traces: list[Trace] = []  # the branches and loops around, the function itself at last
        self._read_after = set[int]()
        trace: Any = context.trace
        while trace is not None:
            self._traces.append(trace)
            trace.calls.append(self._read_after)
            trace = trace.parent
        self._traces[-1].unnamed.append(self)
        self._before = [v for t in self._traces for v in t.written()]
        self.assigned: list[Variable] = []
        self.kept: list[Variable] = []

    def settle(self) -> None:
        """The function is traced: it is known what it does with its Variables."""
        if not self._traces:
            return
        *parts, root = self._traces
        self._traces = []
        inside = [v for t in parts for v in t.written()]  # in a loop what follows comes before the next call too
        held = {id(v): v for v in (*self._before, *inside) if id(v) not in self._named}
        self.assigned = list(held.values())
        after = self._read_after.union(*[t.reads for t in parts])
        used = [v for k, (v, _) in root.reads.items() if k in after]
        held = {id(v): v for v in (*used, *root.written()) if id(v) not in self._named}
        self.kept = list(held.values())

    @contextmanager
    def watched(self, name: str) -> Iterator[None]:
        """Raises `ControlFlowError` where a call reads Variables assigned before it, or assigns those used after it."""
        if not self.kept and not self.assigned:
            yield
            return
        call, around = Call(name, self.kept), context.told

        def told(v: Variable) -> None:
            call.hears(v)
            if around is not None:
                around(v)

        try:
            context.told = told
            _hide(self.assigned, call)
            yield
            if call.error is not None:  # which the function has caught
                raise call.error
        finally:
            context.told = around
            _show(self.assigned, call)


def assigning(name: str, v: Variable) -> Exception:
    said = f"{name} assigns {v.name!r}, which cannot be told from its code"
    return locate(ControlFlowError(said, remedy="call assign() of the Variable by its name, or return the value"))


class Call:
    """A call that is under way, in one thread."""

    __slots__ = ("error", "kept", "name", "thread")

    def __init__(self, name: str, kept: Sequence[Variable]) -> None:
        self.name, self.kept, self.thread = name, kept, threading.get_ident()
        self.error: Exception | None = None

    def hears(self, v: Variable) -> None:
        """A Variable is about to be assigned."""
        if any(v is x for x in self.kept):
            self.error = assigning(self.name, v)
            raise self.error

    def refuse(self, v: Variable) -> Exception:
        said = f"{self.name} reads '{v.name}', which the traced function has assigned before"
        remedy = f"let its code name the Variable, say as the default of a parameter: def {self.name}(…, v=v)"
        self.error = locate(ControlFlowError(f"{said}, and its code does not tell that it does", remedy=remedy))
        return self.error


def _mine(v: Variable) -> Call | None:
    thread = threading.get_ident()
    return next((c for c in _calls.get(id(v), ()) if c.thread == thread), None)


def _read(v: Variable) -> Any:
    if (call := _mine(v)) is not None:
        raise call.refuse(v)
    return _SLOT.__get__(v)


def _of_form(name: str) -> property:
    return property(lambda v: getattr(wrap(_SLOT.__get__(v)), name))


def _reduced(v: Variable, protocol: Any) -> Any:
    """As the class above has it, which is the Variable's own."""
    cls = type(v)
    made = super(cls, v).__reduce_ex__(protocol)
    return (made[0], tuple([cls.__mro__[1] if x is cls else x for x in made[1]]), *made[2:])


_FORM: dict[str, Any] = {name: _of_form(name) for name in ("type", "dtype", "shape", "ndim")}  # as they are
_FORM |= {"__reduce_ex__": _reduced, "__class__": property(lambda v: type(v).__mro__[1])}


def _hide(variables: Sequence[Variable], call: Call) -> None:
    """Reading these Variables is an error from now on, in this thread."""
    with _lock:
        for v in variables:
            calls = _calls.setdefault(id(v), [])
            calls.append(call)
            if len(calls) == 1:
                cls = type(v)
                _CLASS.__set__(v, _classes.get(cls) or _hidden(cls))


def _hidden(cls: type) -> type:
    names = {"__slots__": (), "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    _classes[cls] = type(cls.__name__, (cls,), {**names, **_FORM, "_a": property(_read, _SLOT.__set__)})
    return _classes[cls]


def _show(variables: Sequence[Variable], call: Call) -> None:
    with _lock:
        for v in variables:
            calls = _calls.get(id(v), [])
            if call in calls:  # not after an interrupt
                calls.remove(call)
                if not calls:
                    del _calls[id(v)]
                    own = type(v).__mro__[1]
                    _CLASS.__set__(v, own if type(v) is _classes.get(own) else type(v))


def runs(parts: Any) -> None:
    """A compiled function is called, which reads and assigns Variables by itself."""
    for _, v in parts.reads:
        v._a  # noqa: B018
    for v in parts.writes:
        context.told(v)
