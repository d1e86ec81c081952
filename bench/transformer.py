"""Transformer blocks forward and backward, written for each framework in its own manner."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Bar, Workload
from peers import Call, alike, pick

TOKENS, WIDTH, HEADS = 128, 256, 4
EACH = WIDTH // HEADS
EPSILON = 1e-5


def initial() -> list[np.ndarray]:
    """Scale and offset, query-key-value, projection, scale and offset, and the two layers of the network."""
    rng = np.random.default_rng(11)

    def matrix(n: int, m: int) -> np.ndarray:
        return (rng.standard_normal((n, m)) / np.sqrt(n)).astype(np.float32)

    def vector(n: int, value: float) -> np.ndarray:
        return np.full(n, value, np.float32)

    return [
        vector(WIDTH, 1), vector(WIDTH, 0), matrix(WIDTH, 3 * WIDTH), vector(3 * WIDTH, 0),
        matrix(WIDTH, WIDTH), vector(WIDTH, 0), vector(WIDTH, 1), vector(WIDTH, 0),
        matrix(WIDTH, 4 * WIDTH), vector(4 * WIDTH, 0), matrix(4 * WIDTH, WIDTH), vector(WIDTH, 0),
    ]  # fmt: skip


def batch_of(batch: int) -> tuple[np.ndarray, np.ndarray]:
    """The tokens, and the cotangent of what the block makes of them."""
    rng = np.random.default_rng(12)
    x, g = (rng.standard_normal((batch, TOKENS, WIDTH)).astype(np.float32) for _ in range(2))
    return x, g


def block_tf(peer: Any, weights: list[np.ndarray], x: np.ndarray, g: np.ndarray) -> Call:
    tf = peer.tf
    params = [tf.Variable(w) for w in weights]

    def normed(x: Any, scale: Any, offset: Any) -> Any:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + EPSILON) * scale + offset

    def attention(q: Any, k: Any, v: Any) -> Any:
        if hasattr(tf.nn, "scaled_dot_product_attention"):
            return tf.nn.scaled_dot_product_attention(q, k, v)
        return tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * EACH**-0.5), v)

    def block(x: Any) -> Any:
        s1, o1, qkv, bqkv, out, bout, s2, o2, up, bup, down, bdown = params
        batch = x.shape[0]
        h = normed(x, s1, o1) @ qkv + bqkv
        h = tf.transpose(tf.reshape(h, (batch, TOKENS, 3, HEADS, EACH)), (2, 0, 3, 1, 4))
        h = tf.transpose(attention(h[0], h[1], h[2]), (0, 2, 1, 3))
        x = x + tf.reshape(h, (batch, TOKENS, WIDTH)) @ out + bout
        return x + tf.nn.gelu(normed(x, s2, o2) @ up + bup) @ down + bdown

    def both(x: Any, g: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = block(x)
        return y, tape.gradient(y, [x, *params], output_gradients=g)

    compiled = peer.function(both)
    xs, gs = peer.array(x), peer.array(g)
    return lambda: compiled(xs, gs)


def block_jax(peer: Any, weights: list[np.ndarray], x: np.ndarray, g: np.ndarray) -> Call:
    jax, jnp = peer.jax, peer.jnp

    def normed(x: Any, scale: Any, offset: Any) -> Any:
        return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + EPSILON) * scale + offset

    def block(x: Any, params: Any) -> Any:
        s1, o1, qkv, bqkv, out, bout, s2, o2, up, bup, down, bdown = params
        h = (normed(x, s1, o1) @ qkv + bqkv).reshape(-1, TOKENS, 3, HEADS, EACH)
        h = jax.nn.dot_product_attention(h[:, :, 0], h[:, :, 1], h[:, :, 2])
        x = x + h.reshape(-1, TOKENS, WIDTH) @ out + bout
        return x + jax.nn.gelu(normed(x, s2, o2) @ up + bup, approximate=False) @ down + bdown

    @jax.jit
    def both(x: Any, g: Any, params: Any) -> Any:
        y, pullback = jax.vjp(block, x, params)
        return y, pullback(g)

    xs, gs, ps = peer.array(x), peer.array(g), [jnp.asarray(w) for w in weights]
    return lambda: both(xs, gs, ps)


def block_torch(peer: Any, weights: list[np.ndarray], x: np.ndarray, g: np.ndarray) -> Call:
    torch = peer.torch
    F = torch.nn.functional
    params = [torch.tensor(w).requires_grad_() for w in weights]
    xs, gs = torch.tensor(x).requires_grad_(), peer.array(g)

    def block(x: Any) -> Any:
        s1, o1, qkv, bqkv, out, bout, s2, o2, up, bup, down, bdown = params
        h = F.linear(F.layer_norm(x, (WIDTH,), s1, o1, EPSILON), qkv.T, bqkv)
        h = h.view(-1, TOKENS, 3, HEADS, EACH).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(h[0], h[1], h[2]).transpose(1, 2).reshape(-1, TOKENS, WIDTH)
        x = x + F.linear(h, out.T, bout)
        return x + F.linear(F.gelu(F.linear(F.layer_norm(x, (WIDTH,), s2, o2, EPSILON), up.T, bup)), down.T, bdown)

    compiled = peer.compile(block)

    def call() -> Any:
        y = compiled(xs)
        return y, torch.autograd.grad(y, [xs, *params], gs)

    return call


MAKERS = {
    "transformer": lambda: Workload(
        "transformer",
        "Transformer block forward and backward, batch 8, 128 tokens, width 256, 4 heads",
        Bar("≤ 0.9x best", 0.9, "best"),
        pick(alike(block_tf, block_jax, block_torch), initial(), *batch_of(8)),
    ),
}
