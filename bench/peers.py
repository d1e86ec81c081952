"""The frameworks that are compared: how each makes arrays, compiles a function, differentiates it, and waits for it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

THREADS = 2
Call = Callable[[], Any]

# where each package's version is found
PACKAGES = {
    "tracejit": "tracejit",
    "jax": "jax",
    "tf": "tensorflow",
    "torch.compile": "torch",
    "torch": "torch",
    "numpy": "numpy",
}


def limit_threads(cores: Sequence[int] | None = None) -> None:
    """Give this process and every framework in it two threads. Must run before they are imported."""
    for library in ("OMP", "OPENBLAS", "MKL", "NUMBA", "TRACEJIT"):
        os.environ[f"{library}_NUM_THREADS"] = str(THREADS)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if hasattr(os, "sched_setaffinity"):
        # XLA and TensorFlow size their pools by the cores that they may run on
        os.sched_setaffinity(0, cores or sorted(os.sched_getaffinity(0))[:THREADS])


class Peer:
    """One framework. `m` holds the mathematical functions that the workloads use."""

    name: str
    m: SimpleNamespace

    def forget(self) -> None:
        """Drop what earlier workloads compiled, where it would change how this one is compiled."""

    def array(self, a: np.ndarray) -> Any:
        raise NotImplementedError

    def forward(self, f: Callable[..., Any], *arrays: Any) -> Call:
        """A call of f(m, *arrays), compiled if the framework compiles."""
        raise NotImplementedError

    def gradient(self, f: Callable[..., Any], wrt: Sequence[int], cotangent: Any, *arrays: Any) -> Call:
        """A call that returns y = f(m, *arrays) and its cotangents; `cotangent` None means ones."""
        raise NotImplementedError


class NumPy(Peer):
    name = "numpy"

    def __init__(self) -> None:
        try:
            from scipy.special import erf
        except ImportError:
            erf = None
        self.m = SimpleNamespace(
            exp=np.exp,
            log=np.log,
            sqrt=np.sqrt,
            tanh=np.tanh,
            sigmoid=lambda x: 1 / (1 + np.exp(-x)),
            sin=np.sin,
            cos=np.cos,
            sum=lambda x, axis: np.sum(x, axis=axis),
        )
        if erf is not None:
            self.m.erf = erf

    def array(self, a: np.ndarray) -> Any:
        return a

    def forward(self, f: Callable[..., Any], *arrays: Any) -> Call:
        return lambda: f(self.m, *arrays)


class TensorFlowLike(Peer):
    """TensorFlow and tracejit: the same source runs under both."""

    def __init__(self, name: str, module: ModuleType, function: Callable[[Callable[..., Any]], Any]) -> None:
        self.name, self.tf, self.function = name, module, function
        tf = module

        def layer_norm(x: Any, gamma: Any, beta: Any) -> Any:
            mean = tf.reduce_mean(x, axis=-1, keepdims=True)
            centred = x - mean
            variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
            return centred * tf.math.rsqrt(variance + 1e-5) * gamma + beta

        def cross_entropy(logits: Any, labels: Any) -> Any:
            return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))

        self.m = SimpleNamespace(
            exp=tf.exp,
            log=tf.math.log,
            sqrt=tf.sqrt,
            tanh=tf.tanh,
            sigmoid=tf.sigmoid,
            sin=tf.sin,
            cos=tf.cos,
            erf=tf.math.erf,
            gelu=lambda x: tf.nn.gelu(x, approximate=False),
            sum=lambda x, axis: tf.reduce_sum(x, axis=axis),
            layer_norm=layer_norm,
            cross_entropy=cross_entropy,
        )

    def array(self, a: np.ndarray) -> Any:
        return self.tf.constant(a)

    def forward(self, f: Callable[..., Any], *arrays: Any) -> Call:
        compiled = self.function(lambda *xs: f(self.m, *xs))
        return lambda: compiled(*arrays)

    def gradient(self, f: Callable[..., Any], wrt: Sequence[int], cotangent: Any, *arrays: Any) -> Call:
        def run(ct: Any, *xs: Any) -> Any:
            sources = [xs[i] for i in wrt]
            with self.tf.GradientTape() as tape:
                for source in sources:
                    tape.watch(source)
                y = f(self.m, *xs)
            return y, tape.gradient(y, sources, output_gradients=ct)

        compiled = self.function(run)
        return lambda: compiled(cotangent, *arrays)


class Jax(Peer):
    name = "jax"

    def __init__(self) -> None:
        self.jax = jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", True)
        jnp, scipy = importlib.import_module("jax.numpy"), importlib.import_module("jax.scipy.special")
        self.jnp = jnp

        def layer_norm(x: Any, gamma: Any, beta: Any) -> Any:
            mean = jnp.mean(x, axis=-1, keepdims=True)
            centred = x - mean
            variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
            return centred * jax.lax.rsqrt(variance + 1e-5) * gamma + beta

        def cross_entropy(logits: Any, labels: Any) -> Any:
            picked = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
            return jnp.mean(scipy.logsumexp(logits, axis=-1) - picked)

        self.m = SimpleNamespace(
            exp=jnp.exp,
            log=jnp.log,
            sqrt=jnp.sqrt,
            tanh=jnp.tanh,
            sigmoid=jax.nn.sigmoid,
            sin=jnp.sin,
            cos=jnp.cos,
            erf=scipy.erf,
            gelu=lambda x: jax.nn.gelu(x, approximate=False),
            sum=lambda x, axis: jnp.sum(x, axis=axis),
            layer_norm=layer_norm,
            cross_entropy=cross_entropy,
        )

    def array(self, a: np.ndarray) -> Any:
        return self.jax.block_until_ready(self.jnp.asarray(a))

    def forward(self, f: Callable[..., Any], *arrays: Any) -> Call:
        compiled = self.jax.jit(lambda *xs: f(self.m, *xs))
        return lambda: self.jax.block_until_ready(compiled(*arrays))

    def gradient(self, f: Callable[..., Any], wrt: Sequence[int], cotangent: Any, *arrays: Any) -> Call:
        def run(ct: Any, *xs: Any) -> Any:
            def of_sources(*sources: Any) -> Any:
                merged = list(xs)
                for i, source in zip(wrt, sources):
                    merged[i] = source
                return f(self.m, *merged)

            y, pull = self.jax.vjp(of_sources, *[xs[i] for i in wrt])
            return y, pull(self.jnp.ones_like(y) if ct is None else ct)

        compiled = self.jax.jit(run)
        return lambda: self.jax.block_until_ready(compiled(cotangent, *arrays))


class Torch(Peer):
    """Eager PyTorch, or `torch.compile` around the same functions."""

    def __init__(self, compiled: bool) -> None:
        self.name = "torch.compile" if compiled else "torch"
        self.torch = torch = importlib.import_module("torch")
        torch.set_num_threads(THREADS)
        self.compile = torch.compile if compiled else lambda f, **kwargs: f
        F = torch.nn.functional
        self.m = SimpleNamespace(
            exp=torch.exp,
            log=torch.log,
            sqrt=torch.sqrt,
            tanh=torch.tanh,
            sigmoid=torch.sigmoid,
            sin=torch.sin,
            cos=torch.cos,
            erf=torch.erf,
            gelu=F.gelu,
            sum=lambda x, axis: torch.sum(x) if axis is None else torch.sum(x, dim=axis),
            layer_norm=lambda x, gamma, beta: F.layer_norm(x, x.shape[-1:], gamma, beta, 1e-5),
            cross_entropy=F.cross_entropy,
        )

    def forget(self) -> None:
        # every workload goes through the same line of source, and after a few functions PyTorch would give up on it
        self.torch.compiler.reset()

    def array(self, a: np.ndarray) -> Any:
        # PyTorch's own cross entropy takes 64-bit labels only
        return self.torch.tensor(a.astype(np.int64) if a.dtype == np.int32 else a)

    def forward(self, f: Callable[..., Any], *arrays: Any) -> Call:
        m = self.m
        compiled = self.compile(lambda *xs: f(m, *xs))

        def call() -> Any:
            with self.torch.no_grad():
                return compiled(*arrays)

        return call

    def gradient(self, f: Callable[..., Any], wrt: Sequence[int], cotangent: Any, *arrays: Any) -> Call:
        ways = [self._by_autograd(f, wrt, cotangent, arrays)]
        if self.name == "torch.compile":
            ways.append(self._by_vjp(f, wrt, cotangent, arrays))
        return quickest(ways)

    def _by_autograd(self, f: Callable[..., Any], wrt: Sequence[int], cotangent: Any, arrays: tuple) -> Call:
        """The usual way: the forward part is compiled, autograd runs the backward part, itself compiled."""
        m, torch = self.m, self.torch
        compiled = self.compile(lambda *xs: f(m, *xs))
        arrays = tuple(a.clone().requires_grad_() if i in wrt else a for i, a in enumerate(arrays))
        sources = [arrays[i] for i in wrt]

        def call() -> Any:
            y = compiled(*arrays)
            ct = torch.ones_like(y) if cotangent is None else cotangent
            return y, torch.autograd.grad(y, sources, ct)

        return call

    def _by_vjp(self, f: Callable[..., Any], wrt: Sequence[int], cotangent: Any, arrays: tuple) -> Call:
        """Both parts as one compiled graph."""
        m, torch = self.m, self.torch

        def run(ct: Any, *xs: Any) -> Any:
            def of_sources(*sources: Any) -> Any:
                merged = list(xs)
                for i, source in zip(wrt, sources):
                    merged[i] = source
                return f(m, *merged)

            y, pull = torch.func.vjp(of_sources, *[xs[i] for i in wrt])
            return y, pull(torch.ones_like(y) if ct is None else ct)

        compiled = self.compile(run)
        return lambda: compiled(cotangent, *arrays)


def quickest(ways: Sequence[Call]) -> Call:
    """The best of several ways to compute the same in one framework."""
    return min(ways, key=_time_of) if len(ways) > 1 else ways[0]


def _time_of(call: Call) -> float:
    """The quickest of a few calls."""
    times = []
    for _ in range(8):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times[3:])


def installed(name: str) -> bool:
    return importlib.util.find_spec(PACKAGES[name]) is not None


def open_peer(name: str) -> Peer | None:
    """The framework of this name, None where it is not installed."""
    if not installed(name):
        return None
    if name == "numpy":
        return NumPy()
    if name == "jax":
        return Jax()
    if name.startswith("torch"):
        return Torch(compiled=name == "torch.compile")
    module = importlib.import_module(PACKAGES[name])
    if name == "tf":
        module.config.threading.set_intra_op_parallelism_threads(THREADS)
        module.config.threading.set_inter_op_parallelism_threads(THREADS)
        return TensorFlowLike(name, module, lambda f: module.function(f, jit_compile=True))
    return TensorFlowLike(name, module, module.function)


def leaves(x: Any) -> list[np.ndarray]:
    """Every array of a result, in order, as NumPy."""
    if x is None:
        return []
    if isinstance(x, dict):
        return [a for k in sorted(x) for a in leaves(x[k])]
    if isinstance(x, (tuple, list)):
        return [a for y in x for a in leaves(y)]
    if hasattr(x, "detach"):
        x = x.detach()
    return [np.asarray(x.numpy() if hasattr(x, "numpy") else x)]


Makers = Mapping[str, Callable[..., Call]]


def alike(variables: Callable[..., Call], jax: Callable[..., Call], torch: Callable[..., Call]) -> Makers:
    """Makers by the name of the framework: one for TensorFlow's names, one for PyTorch compiled or not."""
    return {"tracejit": variables, "tf": variables, "jax": jax, "torch": torch, "torch.compile": torch}


def pick(makers: Makers, *args: Any) -> Callable[[Peer], Call | None]:
    """The maker of each framework by its name; a framework that is not among them is left out."""

    def make(peer: Peer) -> Call | None:
        maker = makers.get(peer.name)
        return maker(peer, *args) if maker else None

    return make


def jax_steps(peer: Any, step: Callable[..., Any], state: Any, x: Any, y: Any) -> Call:
    """A training step compiled by JAX, (state, x, y) → (state, loss), whose state is donated and kept between calls."""
    jax = peer.jax
    compiled = jax.jit(step, donate_argnums=0)
    state = jax.tree.map(jax.numpy.array, state)
    xs, ys = peer.array(x), peer.array(y)

    def call() -> Any:
        nonlocal state
        state, loss = compiled(state, xs, ys)
        jax.block_until_ready(state)
        return loss

    return call
