"""`tracejit.bitwise`: functions of the bits of integers, under TensorFlow's names."""

from tracejit.ops.math import bitwise_and, bitwise_or, bitwise_xor, invert, left_shift, right_shift

__all__ = [
    "bitwise_and", "bitwise_or", "bitwise_xor", "invert", "left_shift", "right_shift",
]  # fmt: skip
