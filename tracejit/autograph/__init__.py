"""Python control flow that depends on tensors, compiled as people write it."""

from tracejit.autograph import experimental
from tracejit.autograph.convert import do_not_convert, to_code, to_graph

__all__ = ["do_not_convert", "experimental", "to_code", "to_graph"]
