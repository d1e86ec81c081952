"""Cases of the operations' table: special functions."""

from __future__ import annotations

from collections.abc import Iterator

from op_case import Case


def cases() -> Iterator[Case]:
    yield from ()
