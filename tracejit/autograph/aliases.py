"""Who else holds a tensor, or shows its memory: in Python an assignment to its items would be seen there too."""

from __future__ import annotations

import collections
import copy
import functools
import gc
import itertools
import os
import sys
import types
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from tracejit.autograph.chosen import Chosen
from tracejit.autograph.growing import Before, Stacked
from tracejit.autograph.hostcalls import Yields
from tracejit.autograph.owners import global_names, is_library_module, is_users
from tracejit.autograph.ranges import Rows, tensors_of
from tracejit.autograph.syntax import AG
from tracejit.autograph.values import Optional
from tracejit.context import context
from tracejit.errors import is_internal
from tracejit.identity import IdentityMap
from tracejit.ir.graph import Node, Value
from tracejit.ir.op import OPS
from tracejit.runtime.guards import own_dict
from tracejit.tensor import Operand, Tensor, wrap

Lines = list[tuple[int, int, frozenset[str]]]
Place = tuple[int, Any]  # an object, and where in it
MOST = 4096  # objects that are looked at, and items of each
_VIEWS = ("slice", "reshape", "transpose")
_LOOPS = ("while", "scan")
_TRACER, _FUNCTION = [
    os.path.join(os.path.dirname(os.path.dirname(__file__)), name) for name in ("tracer.py", "function.py")
]
_LOOP_FILE = os.path.join(os.path.dirname(__file__), "loops.py")
_lines: IdentityMap[Lines] = IdentityMap()  # of converted code
_inner: IdentityMap[bool] = IdentityMap()


def is_part(code: types.CodeType) -> None:
    """Code is a part of the function around it: it has the same variables."""
    _inner.set(code, True)


def remember(code: types.CodeType, lines: Lines) -> None:
    """Converted code, and the names that are needed after each of its lines; those of the code in it too."""
    _lines.set(code, lines)
    for c in code.co_consts:
        if isinstance(c, types.CodeType):
            remember(c, lines)


# --- whether two tensors are one in Python ----------------------------------------------------------------------------
def are_one(a: Any, b: Any) -> bool:
    """Whether NumPy would see in `b` what is written to the items of `a`."""
    if a is b:
        return True
    if type(b) is not type(a) or not a.ndim or not b.ndim:
        return False
    x, y = (a._a, b._a) if type(a) is Tensor else (a, b)
    if type(x) is not Value or type(y) is not Value:
        return type(x) is type(y) and bool(np.may_share_memory(x, y))
    if x is y:  # else what is computed twice is one value
        return x.node is not None and (_shown_by(x.node) is not None or x.node.op.family == "control")
    return not _owners(x).isdisjoint(_owners(y))


def alone(t: Tensor, value: Any) -> Tensor:
    """A tensor that was made of a value, as one with memory of its own."""
    a = t._a
    if type(a) is Value:
        shown = a.node is not None and _shown_by(a.node) is not None
        return OPS["identity"](t) if shown or (isinstance(value, Tensor) and value._a is a) else t  # type: ignore[no-any-return]
    b = value._a if isinstance(value, Tensor) else value
    if isinstance(b, np.ndarray) and np.may_share_memory(a, b):
        return wrap(a.copy())
    return t


def _owners(v: Value) -> set[Any]:
    """What may own the memory of a value; found once for each."""
    trace: Any = context.trace
    while trace is not None and trace.parent is not None:
        trace = trace.parent
    return _roots(v, {}, {} if trace is None else trace.__dict__.setdefault("owners", {}))


def _shown_by(n: Node) -> Value | None:
    """The value whose memory NumPy would show as the result of a node."""
    if n.op.name in _VIEWS or (n.op.name == "gather" and not n.inputs[1].shape):
        return n.inputs[0]
    return None


def _outer(v: Value) -> Value | None:
    """What a parameter stands for in a region that is being traced: a value from around it."""
    trace: Any = context.trace
    while trace is not None:
        for owner, t in trace.captures.values():
            if t._a is v and type(owner) is Tensor and type(owner._a) is Value:
                return owner._a
        trace = trace.parent
    return None


def _roots(v: Value, inside: dict[Value, set[Any]], known: dict[Value, set[Any]]) -> set[Any]:
    """The same; `inside` says it of the parameters of the graph that the value is in, `known` of values of that."""
    while True:
        shown = _shown_by(v.node) if v.node is not None else _outer(v)
        if shown is None:
            break
        v = shown
    if v in inside:
        return inside[v]
    if v.node is None or v.node.op.family != "control":
        return {v}
    if v not in known:
        known[v] = {v} | _of_control(v, v.node, inside, known)
    return known[v]


def _of_control(v: Value, n: Node, inside: dict[Value, set[Any]], known: dict[Value, set[Any]]) -> set[Any]:
    """The same of what a branch or loop gives."""
    if n.op.name == "cond":
        around = [_roots(x, inside, known) for x in n.inputs[1:]]
        parts = [(g, dict(zip(g.params, around, strict=False))) for g in (n.attr("then"), n.attr("orelse"))]
        return set().union(*[_of_result(n, g.results[v.index], given) for g, given in parts])
    if n.op.name not in _LOOPS:
        return set()
    g = n.attr("body")
    given = dict(zip(g.params, [_roots(x, inside, known) for x in n.inputs], strict=False))
    for _ in range(2):
        for p, r in zip(g.params[: n.attr("n")], g.results, strict=False):
            given[p] = given[p] | _of_result(n, r, given)
    found = _of_result(n, g.results[v.index], given)
    if v.index >= n.attr("n") or (n.op.name == "scan" and type(n.attr("length")) is int and n.attr("length")):
        return found
    first = _roots(n.inputs[v.index], inside, known)  # it may be that not one step is made
    return found | {x for x in first if not (type(x) is Value and _is_fresh(x))}


def _of_result(n: Node, v: Value, given: dict[Value, set[Any]]) -> set[Any]:
    """The same of a region's result. What the region makes of constants is made for each name that it is given."""
    around = set().union(*given.values())
    found = _roots(v, given, {})
    return {x if x in around else (id(n), x) for x in found if x in around or not (type(x) is Value and _is_fresh(x))}


def _is_fresh(v: Value) -> bool:
    return v.node is not None and v.node.op.name in ("constant", "cast", "broadcast_to", "reshape", "iota") and all(
        _is_fresh(x) for x in v.node.inputs
    )  # fmt: skip


# --- who holds it -----------------------------------------------------------------------------------------------------
class _Own:
    """The variable whose items are assigned: closures, generators and functions that share it get the new tensor."""

    def __init__(self, name: str, t: Any) -> None:
        self.name, self.t = name, t
        self.frames: list[Any] = []  # those of the user that run

    def is_cell(self, name: str, x: Any, code: types.CodeType, cell: Any = None) -> bool:
        """Whether a free variable of this code, which is `x` there, is the variable."""
        if name != self.name or x is not self.t:
            return False
        frames = [f for f in self.frames if f.f_locals.get(name) is x]
        if any(name in f.f_code.co_cellvars and _stands_in(code, f.f_code, name) for f in frames):
            return True
        codes = {f.f_code for f in frames if name in f.f_code.co_freevars}
        running = [g for c in codes for g in gc.get_referrers(c) if type(g) is types.FunctionType and g.__code__ is c]
        return any(c is cell for g in running for c in g.__closure__ or ())

    def is_global(self, name: str, x: Any, around: Any) -> bool:
        """The same of a global."""
        if name != self.name or x is not self.t or self.frames[0].f_globals is not around:
            return False
        code = self.frames[0].f_code
        local = (*code.co_varnames, *code.co_cellvars, *code.co_freevars)
        return name not in local and name in global_names(code)


def _stands_in(code: types.CodeType, outer: types.CodeType, name: str) -> bool:
    """Whether code within other code has its variable of this name from there."""
    inner = [c for c in outer.co_consts if type(c) is types.CodeType and name in c.co_freevars]
    return any(c is code or _stands_in(code, c, name) for c in inner)


def holder(t: Any, target: Place | None, name: str, pending: Sequence[str] = ()) -> str | None:
    """What else would change, as the user calls it; None if nothing does. The tensor is assigned to by `name`, or at
    `target`; names that are `pending` hold what is assigned next."""
    frame: Any = sys._getframe(1)
    mine, held, within, unit = name, None, False, None
    own, asked, seen = _Own(name, t), list[tuple[str, Any, bool]](), dict[int, Any]()
    while frame is not None and not _begins(frame):
        code = frame.f_code
        if not is_internal(code.co_filename):
            own.frames.append(frame)
            unit = _lines.get(code) if unit is None else unit
            held = held if within else _held(code, frame.f_lineno)
            this = mine if _lines.get(code) is unit else ""
            there = [(n, x) for n, x in list(frame.f_locals.items()) if n in pending or _is_held(n, held)]
            around = [(n, frame.f_globals[n]) for n in global_names(code) if n in frame.f_globals]
            there += [(n, x) for n, x in around if not own.is_global(n, x, frame.f_globals)]
            asked += [(n, x, n in pending) for n, x in there if n != this or x is not t]
            within = code in _inner
            if this in (*code.co_varnames, *code.co_cellvars):  # the function whose variable it is
                mine = ""
            if not within:
                pending = ()
        frame = frame.f_back
    for n, x, assigned in asked:
        if (found := _found(x, target, n, own, seen)) is not None:
            return "the value that is assigned" if assigned else repr(found)
    return None


def is_reachable(which: Collection[int], more: Sequence[Any]) -> bool:
    """Whether the function can still reach an object with one of these identities: by a name that it needs after the
    statement at hand, or in one of `more`."""
    frame: Any = sys._getframe(1)
    todo, held, within = list(more), None, False
    while frame is not None and not _begins(frame):
        code = frame.f_code
        if not is_internal(code.co_filename):
            held = held if within else _held(code, frame.f_lineno)
            todo += [x for n, x in list(frame.f_locals.items()) if _is_held(n, held)]
            within = code in _inner
        frame = frame.f_back
    seen = dict[int, Any]()
    while todo and len(seen) < MOST:
        x = todo.pop()
        if type(x) in _ATOMS or isinstance(x, (Operand, np.ndarray)) or id(x) in seen:
            continue
        if id(x) in which:
            return True
        seen[id(x)] = x
        todo += x.values if type(x) is Chosen else [y for _, _, y in _parts(x, None)]
    return len(seen) >= MOST


def gone_through(t: Any) -> Iterator[Tensor]:
    """The tensors that loops under way go through and that are this one or a view of it."""
    frame: Any = sys._getframe(1)
    while frame is not None and not _begins(frame):
        if frame.f_code.co_name == "for_" and frame.f_code.co_filename == _LOOP_FILE:
            yield from [x for x in tensors_of(frame.f_locals.get("it")) if are_one(t, x)]
        frame = frame.f_back


def among(values: Any) -> bool:
    """Whether two of the tensors in these values are one."""
    todo, found, seen = [values], list[Tensor](), dict[int, Any]()
    while todo and len(seen) < MOST:
        x = todo.pop()
        if type(x) is Tensor:
            if x.ndim and any(are_one(x, y) for y in found):
                return True
            found.append(x)
        elif type(x) not in _ATOMS and id(x) not in seen:
            seen[id(x)] = x
            todo += [y for _, _, y in _parts(x, None)]
    return False


def _begins(frame: Any) -> bool:
    """Whether a frame is that from which the outermost function is traced, or run as plain Python."""
    code = frame.f_code
    if code.co_filename == _FUNCTION and code.co_name == "_plainly":
        while frame is not None and is_internal(frame.f_code.co_filename):
            frame = frame.f_back
        return frame is None or frame.f_code not in _lines
    return bool(code.co_filename == _TRACER)


def _is_held(name: str, held: Collection[str] | None) -> bool:
    return not name.startswith(AG) and (held is None or name in held)


def _held(code: types.CodeType, line: int) -> Collection[str] | None:
    """The names that are needed after a line; None for all."""
    lines = _lines.get(code)
    return None if lines is None else {n for a, b, names in lines if a <= line <= b for n in names}


def _found(x: Any, target: Place | None, name: str, own: _Own, seen: dict[int, Any]) -> str | None:
    """The tensor in what a name holds, as it is reached from there."""
    todo: collections.deque[tuple[Any, str]] = collections.deque([(x, name)])
    most = len(seen) + MOST
    while todo and len(seen) < most:
        x, called = todo.popleft()
        if isinstance(x, (Operand, np.ndarray)):
            if are_one(own.t, x):
                return called
        elif type(x) not in _ATOMS and id(x) not in seen:
            seen[id(x)] = x  # which keeps the identity from being given to another
            todo += [(y, called + step) for key, step, y in _parts(x, own) if (id(x), key) != target]
    return None


# --- what an object holds ---------------------------------------------------------------------------------------------
Parts = Iterator[tuple[Any, str, Any]]  # where in the object, as the user writes it, and what is there
_ATOMS = frozenset([type(None), bool, int, float, complex, str, bytes, range, slice, type(...), types.CodeType])
_OPAQUE = (types.CellType, types.FrameType, types.TracebackType, Operand)
# Python's own classes whose objects hold what users put there: iterators, views, methods of containers, ...
_HOLDERS = frozenset(["builtins", "itertools", "collections", "functools", "types"])


def _parts(x: Any, own: _Own | None) -> Parts:
    cls = type(x)
    if (known := _KNOWN.get(cls)) is not None:
        yield from known(x, own)
    elif isinstance(x, type):
        if is_users(x):
            yield from [(k, f".{k}", y) for k, y in vars(x).items()]
            yield from [(None, "", y) for y in x.__mro__[1:]]
    elif isinstance(x, dict):
        yield from [(k, f"[{k!r}]", y) for k, y in itertools.islice(x.items(), MOST)]
    elif isinstance(x, (list, tuple, collections.deque)):
        yield from [(i, f"[{i}]", y) for i, y in enumerate(itertools.islice(x, MOST))]
    elif isinstance(x, types.ModuleType):
        if not is_library_module(x):
            yield from [(k, f".{k}", y) for k, y in vars(x).items()]
    elif cls.__module__ in _HOLDERS and not isinstance(x, _OPAQUE) and not is_users(cls):
        yield from [(None, "", y) for y in (*gc.get_referents(x), own_dict(x))]
    if not isinstance(x, type) and is_users(cls):
        yield from _of_object(x, cls)


def _of_object(x: Any, cls: type) -> Parts:
    """What stands in the attributes of an object, and in those of its class."""
    yield from [(k, f".{k}", y) for k, y in (own_dict(x) or {}).items()]
    for c in cls.__mro__:
        for k, member in list(vars(c).items()):
            if type(member) is types.MemberDescriptorType:
                try:
                    yield k, f".{k}", member.__get__(x, cls)
                except AttributeError:
                    continue
    yield None, "", cls


def _of_function(f: types.FunctionType, own: _Own | None) -> Parts:
    """What a function has from where it was defined, and the globals that it reads."""
    code, around = f.__code__, f.__globals__
    if is_internal(code.co_filename):
        yield None, "", f.__dict__.get("__wrapped__")
        return
    yield from [(None, "", y) for y in (f.__defaults__, f.__kwdefaults__, f.__dict__) if y]
    for n, c in zip(code.co_freevars, f.__closure__ or (), strict=True):
        if c != types.CellType() and not n.startswith(AG):
            y = c.cell_contents
            if own is None or not own.is_cell(n, y, code, c):
                yield None, f"'s {n}", y
    if own is not None:
        found = [(n, around[n]) for n in global_names(code) if n in around]
        yield from [(None, f"'s {n}", y) for n, y in found if not own.is_global(n, y, around)]


def _of_generator(g: Any, own: _Own | None) -> Parts:
    """What a generator that waits has in its variables, and what it goes through."""
    if g.gi_frame is None or g.gi_running or is_internal(g.gi_code.co_filename):
        return
    variables = g.gi_frame.f_locals
    for n, y in list(variables.items()):
        if not n.startswith(AG) and (own is None or not own.is_cell(n, y, g.gi_code)):
            yield None, "", y
    yield from [(None, "", y) for y in gc.get_referents(g) if y is not variables and type(y) is not types.CellType]


def _of_yields(x: Yields, own: _Own | None) -> Parts:
    """What the call of a generator has been given, or what is left of it."""
    held = (x.function, x.args, x.kwargs) if x._rows is None else (x._rows,)
    yield from [(None, "", y) for y in held]


def _of_iterator(x: Any, own: _Own | None) -> Parts:
    """What an iterator goes through, without what it has given last."""
    yield None, "", x.__reduce__()[1]


def _what_is_left(x: Any, own: _Own | None) -> Parts:
    yield from [(None, "", y) for y in itertools.islice(copy.copy(x), MOST)]


def _all(*names: str) -> Callable[[Any, Any], Parts]:
    return lambda x, own: iter([(None, "", getattr(x, n)) for n in names])


_KNOWN: dict[type, Callable[[Any, Any], Parts]] = {
    types.FunctionType: _of_function,
    types.GeneratorType: _of_generator,
    Yields: _of_yields,
    types.MethodType: lambda x, own: iter([("self", ".__self__", x.__self__), ("func", "", x.__func__)]),
    functools.partial: _all("args", "keywords", "func"),
    **dict.fromkeys([zip, enumerate, map, filter], _of_iterator),
    **dict.fromkeys([type(iter([])), type(iter(())), type(reversed([]))], _what_is_left),
    Stacked: _all("parts"), Optional: _all("value"), Before: _all("first", "last"), Rows: _all("parts"),
}  # fmt: skip
