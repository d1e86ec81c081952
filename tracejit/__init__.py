"""A JIT-compiling tracer: eager tensors, gradients, and functions that become fused native code."""
