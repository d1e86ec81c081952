"""Threads, memory, caches, and the native program."""
