"""Who else holds a tensor, or shows its memory: in Python an assignment to its items would be seen there too."""

from __future__ import annotations

import collections
import functools
import itertools
import os
import sys
import types
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from tracejit.autograph.growing import Before, Stacked
from tracejit.autograph.owners import global_names, is_users
from tracejit.autograph.syntax import AG
from tracejit.autograph.values import Optional
from tracejit.context import context
from tracejit.errors import is_internal
from tracejit.identity import IdentityMap
from tracejit.ir.graph import Node, Value
from tracejit.runtime.guards import own_dict
from tracejit.tensor import Operand, Tensor

Lines = list[tuple[int, int, frozenset[str]]]
Place = tuple[int, Any]  # an object, and where in it
MOST = 4096  # objects that are looked at, and items of each
_VIEWS = ("slice", "reshape", "transpose")
_LOOPS = ("while", "scan")
_TRACER, _FUNCTION = [
    os.path.join(os.path.dirname(os.path.dirname(__file__)), name) for name in ("tracer.py", "function.py")
]
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
    return _of_result(n, g.results[v.index], given)


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
def holder(t: Any, target: Place | None, name: str, pending: Sequence[str] = ()) -> str | None:
    """What else would change, as the user calls it; None if nothing does. The tensor is assigned to by `name`, or at
    `target`; names that are `pending` hold what is assigned next."""
    frame: Any = sys._getframe(1)
    own, held, within, unit = name, None, False, None
    while frame is not None and not _begins(frame):
        code = frame.f_code
        if not is_internal(code.co_filename):
            unit = _lines.get(code) if unit is None else unit
            held = held if within else _held(code, frame.f_lineno)
            mine = own if _lines.get(code) is unit else ""
            there = [(n, x) for n, x in list(frame.f_locals.items()) if n in pending or _is_held(n, held)]
            there += [(n, frame.f_globals[n]) for n in global_names(code) if n in frame.f_globals]
            for n, x in there:
                if (n != mine or x is not t) and (found := _found(x, t, target, n)) is not None:
                    return "the value that is assigned" if n in pending else repr(found)
            within = code in _inner
            if mine in (*code.co_varnames, *code.co_cellvars):  # the function whose variable it is
                own = ""
            if not within:
                pending = ()
        frame = frame.f_back
    return None


def among(values: Any) -> bool:
    """Whether two of the tensors in these values are one."""
    todo, found, seen = [values], list[Tensor](), set[int]()
    while todo and len(seen) < MOST:
        x = todo.pop()
        if type(x) is Tensor:
            if x.ndim and any(are_one(x, y) for y in found):
                return True
            found.append(x)
        elif id(x) not in seen:
            seen.add(id(x))
            todo += [y for _, _, y in _parts(x)]
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


def _found(x: Any, t: Any, target: Place | None, name: str) -> str | None:
    """The tensor in what a name holds, as it is reached from there."""
    todo: collections.deque[tuple[Any, str]] = collections.deque([(x, name)])
    seen: set[int] = set()
    while todo and len(seen) < MOST:
        x, called = todo.popleft()
        if isinstance(x, (Operand, np.ndarray)):
            if are_one(t, x):
                return called
            continue
        if id(x) in seen:
            continue
        seen.add(id(x))
        todo += [(y, called + step) for key, step, y in _parts(x) if (id(x), key) != target]
    return None


def _parts(x: Any) -> Iterator[tuple[Any, str, Any]]:
    if isinstance(x, dict):
        yield from [(k, f"[{k!r}]", y) for k, y in itertools.islice(x.items(), MOST)]
    elif isinstance(x, (list, tuple, collections.deque)):
        yield from [(i, f"[{i}]", y) for i, y in enumerate(itertools.islice(x, MOST))]
    elif type(x) is Stacked:
        yield from [(i, "", y) for i, y in enumerate(x.parts)]
    elif type(x) is Optional:
        yield "", "", x.value
    elif type(x) is Before:
        yield from [(i, f"[{i}]", y) for i, y in enumerate([*x.first, *x.last])]
    elif type(x) is functools.partial:
        yield "args", "", (x.args, x.keywords)
    elif type(x) is types.MethodType:
        yield "self", ".__self__", x.__self__
    elif is_users(type(x)) and not isinstance(x, type) and (own := own_dict(x)) is not None:
        yield from [(k, f".{k}", y) for k, y in own.items()]
