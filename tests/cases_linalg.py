"""Cases of the operations' table: decompositions and functions of matrices."""

from __future__ import annotations

from collections.abc import Iterator

from op_case import Case


def cases() -> Iterator[Case]:
    yield from ()
