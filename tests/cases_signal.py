"""Cases of the operations' table: Fourier transforms and windows of signals."""

from __future__ import annotations

from collections.abc import Iterator

from op_case import Case


def cases() -> Iterator[Case]:
    yield from ()
