"""Guards of classes: which ones stand above them, what they are called, and what abstract ones take for their own."""

from __future__ import annotations

import weakref
from typing import Any

from tracejit.runtime import layout
from tracejit.runtime.guards import Check, Guard, Unknown, Words
from tracejit.runtime.held import MISSING


class ClassPart(Guard):
    """What `type` knows of a class: `key[2]` is "__mro__", "__bases__", "__name__" or "__qualname__"."""

    __slots__ = ()

    def now(self) -> Any:
        return type.__dict__[self.key[2]].__get__(self.owner())

    def words(self, w: Words) -> None:
        at = layout.class_offset(self.key[2])
        if not at:
            raise Unknown
        w.add(Check.POINTER, id(self.owner()) + at, layout.word(id(self.owner()) + at))
        w.keep.append(self.now())


class Below(Guard):
    """Whether an abstract class counts another, `key[2]`, as below it, which may be told it at any time."""

    __slots__ = ()

    def now(self) -> Any:
        cls = self.key[2]()
        return MISSING if cls is None else issubclass(cls, self.owner())

    def words(self, w: Words) -> None:
        at = layout.abc_token()
        if not at:
            raise Unknown
        w.add(Check.NUMBER, at, layout.word(at))

    @staticmethod
    def key_of(cls: type, kind: type) -> tuple[Any, ...]:
        return "below", id(kind), weakref.ref(cls)
