"""The caller's own containers in a call that runs as plain Python with tensors in the place of arrays."""

from __future__ import annotations

from typing import Any

from tracejit import tree
from tracejit.autograph import places


class Kept:
    """Arguments for plain Python: those of the call, and copies of those in which arrays have become tensors.

    given, new   the arguments as they are given, and what the function is to have in their places
    values       what it gets: the very objects of the caller wherever nothing in them is another
    """

    def __init__(self, given: tuple, new: tuple) -> None:
        self._pairs: dict[int, tuple[Any, Any, list]] = {}
        self._originals: dict[int, tuple[Any, Any]] = {}
        self.values = tuple([self._chosen(x, y) for x, y in zip(given, new, strict=True)])

    def _chosen(self, x: Any, y: Any) -> Any:
        leaves, s = tree.flatten_shared(x)
        others, t = tree.flatten_shared(y)
        if s != t or s.kind is None:
            return y
        if all(a is b for a, b in zip(leaves, others, strict=True)):
            return x
        self._note(x, y)
        return y

    def _note(self, x: Any, y: Any) -> None:
        if id(y) in self._originals:
            return
        self._originals[id(y)] = x, y
        parts = _parts(y)
        if parts is None:
            return
        if not isinstance(y, tuple):
            self._pairs[id(y)] = x, y, parts
        for a, b in zip(_parts(x) or (), parts, strict=True):
            self._note(a, b)

    def give_back(self) -> None:
        """What the function has done to the copies, done to the caller's containers."""
        for x, y, before in self._pairs.values():
            after = _parts(y) or []
            if len(after) == len(before) and all(a is b for a, b in zip(after, before)):
                continue
            if isinstance(y, dict):
                places.refill(x, {k: self._original(v) for k, v in y.items()})
            elif isinstance(y, list):
                places.refill(x, [self._original(v) for v in y])
            else:
                for k, v in zip(tree.flatten(y)[1].keys, after):
                    object.__setattr__(x, k, self._original(v))

    def _original(self, y: Any) -> Any:
        found = self._originals.get(id(y))
        return y if found is None or found[1] is not y else found[0]


def _parts(x: Any) -> list | None:
    """What a container holds, keys of dicts included."""
    if isinstance(x, dict):
        return [z for k, v in x.items() for z in (k, v)]
    if isinstance(x, (list, tuple)):
        return list(x)
    s = tree.flatten(x)[1]
    return None if s.kind is None else [getattr(x, k) for k in s.keys]
