"""A compiled call under an eager tape: forward that saves residuals, backward that is compiled too."""

from __future__ import annotations

from typing import Any

from tracejit.tensor import Tensor


def record_call(concrete: Any, inputs: list[Any], sizes: dict[str, int]) -> list[Tensor]:
    raise NotImplementedError
