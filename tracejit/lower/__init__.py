"""Kernels and the code that they become."""
