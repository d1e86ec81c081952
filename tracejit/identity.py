"""Objects told apart by identity: a reference that is hashable, and a dictionary that holds its keys weakly."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Reference:
    """Stands for an object where things are hashed and compared: equal for the same object only. Holds it."""

    __slots__ = ("_object",)

    def __init__(self, x: Any) -> None:
        self._object = x

    def deref(self) -> Any:
        """The object."""
        return self._object

    def __hash__(self) -> int:
        return id(self._object)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self._object is other._object

    def __repr__(self) -> str:
        return f"<reference to a {type(self._object).__name__} at {id(self._object):#x}>"


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
