"""`tj.autograph.experimental`: names that TensorFlow has there."""

from tracejit.autograph.convert import do_not_convert

__all__ = ["do_not_convert"]
