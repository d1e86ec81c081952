"""A dictionary whose keys are told apart by identity and held weakly."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class IdentityMap(Generic[V]):
    """Values by object. Code objects of equal text are equal, wherever they stand, and each has its own value here."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[weakref.ref[Any], V]] = {}

    def get(self, key: Any) -> V | None:
        found = self._of.get(id(key))
        return None if found is None else found[1]

    def set(self, key: Any, value: V) -> None:
        i, of = id(key), self._of

        def gone(ref: weakref.ref[Any]) -> None:
            if i in of and of[i][0] is ref:
                del of[i]

        of[i] = weakref.ref(key, gone), value

    def __contains__(self, key: Any) -> bool:
        return id(key) in self._of

    def __len__(self) -> int:
        return len(self._of)

    def alive(self) -> list[Any]:
        """The keys that are still there."""
        return [k for ref, _ in list(self._of.values()) for k in [ref()] if k is not None]

    def forget(self, key: Any) -> None:
        self._of.pop(id(key), None)
