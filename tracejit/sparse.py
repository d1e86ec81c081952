"""`tracejit.sparse`: tensors of which few elements are kept, made of tensors and back, under TensorFlow's names."""

from tracejit.ops.sparse import SparseTensor, from_dense, to_dense

__all__ = ["SparseTensor", "from_dense", "to_dense"]
