"""Reverse and forward mode, shared by the eager tape and by graphs."""

from tracejit.autodiff.forward import ForwardAccumulator
from tracejit.autodiff.tape import GradientTape

__all__ = ["ForwardAccumulator", "GradientTape"]
