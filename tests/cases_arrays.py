"""Cases of the operations' table: arrays: segments, searches, parts put together and taken apart."""

from __future__ import annotations

from collections.abc import Iterator

from op_case import Case


def cases() -> Iterator[Case]:
    yield from ()
