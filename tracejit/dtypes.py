"""`tracejit.dtypes`: the element types and what is asked of them."""

from tracejit.ir.types import (
    DType,
    as_dtype,
    bfloat16,
    bool_,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    promote,
    uint8,
    uint16,
    uint32,
    uint64,
)
from tracejit.ir.types import bool_ as bool
from tracejit.ir.types import float16 as half
from tracejit.ir.types import float64 as double

__all__ = [
    "as_dtype", "bfloat16", "bool", "bool_", "complex128", "complex64", "double", "DType", "float16", "float32",
    "float64", "half", "int16", "int32", "int64", "int8", "promote", "uint16", "uint32", "uint64", "uint8",
]  # fmt: skip
