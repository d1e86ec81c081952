"""A small progress bar: one line rewritten on a terminal, a few lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

_WIDTH = 28


class Progress:
    """Counts up to `total`; use it as a context manager and call `step(note)` after each piece of work."""

    def __init__(self, label: str, total: int, stream: TextIO | None = None) -> None:
        self.label, self.total, self.done = label, max(1, total), 0
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._drawn = 0.0
        self._quarter = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.live:
            self.stream.write("\n")
            self.stream.flush()

    def step(self, note: str = "") -> None:
        self.done += 1
        finished = self.done >= self.total
        if self.live:
            now = time.monotonic()
            if finished or now - self._drawn > 0.05:
                self._drawn = now
                filled = _WIDTH * self.done // self.total
                bar = "█" * filled + "·" * (_WIDTH - filled)
                self._write(f"\r{self.label:<28}{bar} {self.done}/{self.total}  {note:<24}")
        elif (quarter := 4 * self.done // self.total) > self._quarter:
            self._quarter = quarter
            self._write(f"{self.label}: {25 * quarter} %  {note}\n")

    def _write(self, text: str) -> None:
        encoding = self.stream.encoding or "ascii"
        self.stream.write(text.encode(encoding, "replace").decode(encoding))
        self.stream.flush()
