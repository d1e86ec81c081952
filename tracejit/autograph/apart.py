"""Lists and dicts that a call is given, which a trace takes for others than those that it has from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracejit.autograph.attempts import calling
from tracejit.autograph.effects import Path, follow


def given_at(path: Path) -> Any:
    """What the caller has given at this place of the arguments; None if that is not there, or there is no caller."""
    if calling.arguments is None:
        return None
    bind, args, kwargs = calling.arguments
    try:
        return follow(bind.bound(args, kwargs), path) if len(path) > 1 else None
    except (LookupError, TypeError, AttributeError):  # it is given otherwise than it is bound
        return None


class Apart:
    """By the places of containers among the arguments, those from outside that these are not."""

    def __init__(self, others: Sequence[tuple[Path, Sequence[Any]]]) -> None:
        self.others = others

    def holds(self) -> bool:
        """Whether that is so for the call at hand."""
        for path, others in self.others:
            x = given_at(path)
            if x is not None and any(x is y for y in others):
                return False
        return True
