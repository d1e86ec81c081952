"""Workloads on signals: Fourier transforms of lengths of every kind, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Bar, Workload
from peers import Call, Peer

rng = np.random.default_rng(0)

MODULES: dict[str, Callable[[Peer], Any]] = {
    "numpy": lambda peer: np.fft,
    "jax": lambda peer: peer.jnp.fft,  # type: ignore[attr-defined]
    "torch": lambda peer: peer.torch.fft,  # type: ignore[attr-defined]
    "tf": lambda peer: peer.tf.signal,  # type: ignore[attr-defined]
    "tracejit": lambda peer: peer.tf.signal,  # type: ignore[attr-defined]
}


def transform(name: str, what: str, *shape: int) -> Workload:
    """A transform along the last axis, single precision."""
    data = rng.standard_normal(shape).astype(np.float32)
    data = data + 1j * rng.standard_normal(shape).astype(np.float32) if what == "fft" else data

    def make(peer: Peer) -> Call | None:
        if peer.name not in MODULES:  # the compiler of PyTorch calls the same function
            return None
        f = getattr(MODULES[peer.name](peer), what)
        return peer.forward(lambda m, x: f(x), peer.array(data))

    size = "x".join(map(str, shape))
    return Workload(name, f"{what} of {size}, single precision", Bar("≤ 1.0x best", 1.0, "best"), make, headline=False)


MAKERS = {
    "fft_1000": lambda: transform("fft_1000", "fft", 1000),
    "fft_prime": lambda: transform("fft_prime", "fft", 1009),
    "fft_65536": lambda: transform("fft_65536", "fft", 65536),
    "fft_lines": lambda: transform("fft_lines", "fft", 1024, 256),
    "rfft_65536": lambda: transform("rfft_65536", "rfft", 65536),
}
