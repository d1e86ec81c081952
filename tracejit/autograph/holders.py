"""Which of the objects that we hold something else holds too: the others were made, and forgotten, by the function."""

from __future__ import annotations

import gc
import sys
import types
from collections import Counter
from typing import Any

from tracejit.autograph.places import Place, is_container
from tracejit.runtime.guards import Guard
from tracejit.runtime.held import Held
from tracejit.tensor import Operand, Variable


class Note:
    """What was written down of the trace: what it refers to is not held by anyone for that."""

    __slots__ = ()


# From Python 3.13 on objects that keep their attributes in themselves tell of those, and not of the dict that there is
# once it has been asked for; nor does that dict tell of them.
_INLINE = 1 << 2 if sys.version_info >= (3, 13) else 0
MANY = 20_000  # objects that are looked at; what only the others hold is taken for held elsewhere
_LEAVES = (type, types.ModuleType, types.FunctionType, types.MethodType, types.BuiltinFunctionType, Operand)


def parts_of(x: Any) -> list[Any]:
    """What a container or an object of a plain class holds."""
    if isinstance(x, _LEAVES) and not _is_ours(x):
        return []
    found = gc.get_referents(x)
    if _INLINE and type(x).__flags__ & _INLINE:
        found.append(object.__getattribute__(x, "__dict__"))
    return found


def _is_ours(x: Any) -> bool:
    """Whether an object is part of what was written down of the trace, and nothing that the function knows."""
    return isinstance(x, (Place, Note, Guard, Held)) or (
        type(x) is types.FunctionType and x.__module__ == Held.__module__
    )  # fmt: skip


def _is_node(x: Any) -> bool:
    if _is_ours(x) or isinstance(x, Variable):
        return True
    return (is_container(x) or gc.is_tracked(x)) and not isinstance(x, _LEAVES)


class Outside:
    """The identities of objects that not only we hold."""

    def __init__(self, own: set[int]) -> None:
        self.own = own

    def __contains__(self, i: int) -> bool:
        return i not in self.own


def held_elsewhere(ours: list[Any], notes: list[Any], known: set[int]) -> Outside:
    """Tells the objects reachable from the containers in `ours` that nothing else can reach from all others.

    As Python's collector finds cycles: an object with more references than come from `ours` is held elsewhere, and so
    is everything that it holds. References from `notes`, which are ours too, do not count. Of those that are `known` to
    be held elsewhere it is not asked what they hold.
    """
    gc.collect(1)  # what only dead cycles hold
    nodes: dict[int, Any] = {}
    inner = _references(notes)
    roots = set(map(id, ours))
    todo = list(ours)
    while todo:
        for y in parts_of(todo.pop()):
            inner[id(y)] += 1
            if id(y) not in nodes and id(y) not in known and id(y) not in roots and len(nodes) < MANY and _is_node(y):
                nodes[id(y)] = y
                todo.append(y)
    y = None
    judged = [i for i, x in nodes.items() if not _is_ours(x)]
    outside = [i for i in judged if sys.getrefcount(nodes[i]) > inner[i] + 2]  # one in `nodes`, one as an argument
    own = set(judged) - set(outside)
    while outside:
        x = nodes[outside.pop()]
        for y in [*parts_of(x), *(x.values() if type(x) is dict else ())]:
            if id(y) in own:
                own.discard(id(y))
                outside.append(id(y))
    return Outside(own)


def _references(notes: list[Any]) -> Counter[int]:
    """How often each object is referred to by what was written down of the trace."""
    found: Counter[int] = Counter()
    todo, seen = list(notes), set[int]()
    while todo:
        x = todo.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        function = type(x) is types.FunctionType
        for y in [c.cell_contents for c in x.__closure__ or ()] if function else gc.get_referents(x):
            found[id(y)] += 1
            if _is_ours(y) or (not function and type(y) in (list, tuple)):
                todo.append(y)
    return found
