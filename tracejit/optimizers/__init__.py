"""`tracejit.optimizers`: rules by which Variables follow gradients, under Keras's names."""

from tracejit.optimizers import schedules
from tracejit.optimizers.base import Optimizer
from tracejit.optimizers.descent import SGD, Adadelta, Adagrad, Ftrl, RMSprop
from tracejit.optimizers.moments import Adam, Adamax, AdamW, Lion, Nadam
from tracejit.optimizers.scaling import LossScaleOptimizer

__all__ = [
    "Adadelta", "Adagrad", "Adam", "Adamax", "AdamW", "Ftrl", "Lion", "LossScaleOptimizer", "Nadam", "Optimizer",
    "RMSprop", "schedules", "SGD",
]  # fmt: skip
