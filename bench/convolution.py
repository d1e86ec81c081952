"""Training steps of convolutional networks, written for each framework in its own manner."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Bar, Workload
from peers import Call, alike, jax_steps, pick, quickest

RATE = 0.01
SIDE, CLASSES, WIDTHS, KERNEL = 28, 10, (32, 64), 3


def initial() -> list[np.ndarray]:
    """Filters [height, width, channels, outputs] with biases, then the dense layer."""
    rng = np.random.default_rng(8)
    one, two = WIDTHS
    dense = (SIDE // 4) ** 2 * two
    shapes = [(KERNEL, KERNEL, 1, one), (one,), (KERNEL, KERNEL, one, two), (two,), (dense, CLASSES), (CLASSES,)]
    return [
        (rng.standard_normal(s) * np.sqrt(2 / np.prod(s[:-1])) if len(s) > 1 else np.zeros(s)).astype(np.float32)
        for s in shapes
    ]


def batch_of(batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(9)
    x = rng.standard_normal((batch, SIDE, SIDE, 1)).astype(np.float32)
    return x, rng.integers(0, CLASSES, batch).astype(np.int32)


def cnn_variables(peer: Any, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> Call:
    tf = peer.tf
    params = [tf.Variable(w) for w in weights]

    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            h = x
            for i in (0, 2):
                h = tf.nn.relu(tf.nn.conv2d(h, params[i], 1, "SAME") + params[i + 1])
                h = tf.nn.max_pool2d(h, 2, 2, "VALID")
            logits = tf.reshape(h, (x.shape[0], -1)) @ params[4] + params[5]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
        for p, g in zip(params, tape.gradient(loss, params)):
            p.assign_sub(RATE * g)
        return loss

    compiled = peer.function(step)
    xs, ys = peer.array(x), peer.array(y)
    return lambda: compiled(xs, ys)


def cnn_jax(peer: Any, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> Call:
    jax, jnp, m = peer.jax, peer.jnp, peer.m
    layout = ("NHWC", "HWIO", "NHWC")

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        h = x
        for i in (0, 2):
            h = jax.lax.conv_general_dilated(h, params[i], (1, 1), "SAME", dimension_numbers=layout)
            h = jax.nn.relu(h + params[i + 1])
            h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return m.cross_entropy(h.reshape(x.shape[0], -1) @ params[4] + params[5], y)

    def step(params: Any, x: Any, y: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        return [p - RATE * g for p, g in zip(params, grads)], loss

    return jax_steps(peer, step, weights, x, y)


def cnn_torch(peer: Any, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> Call:
    """Channels first, as PyTorch has them, in the quicker of both orders of memory."""
    tried = {last: _cnn_torch(peer, weights, x, y, last) for last in (False, True)}
    best = quickest(list(tried.values()))
    return next(_cnn_torch(peer, weights, x, y, last) for last in tried if tried[last] is best)  # nothing learnt yet


def _cnn_torch(peer: Any, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray, last: bool) -> Call:
    torch = peer.torch
    F = torch.nn.functional
    form = torch.channels_last if last else torch.contiguous_format
    arranged = [w.transpose(3, 2, 0, 1) if w.ndim == 4 else w for w in weights]
    _, two = WIDTHS
    arranged[4] = arranged[4].reshape(SIDE // 4, SIDE // 4, two, CLASSES).transpose(2, 0, 1, 3).reshape(-1, CLASSES)
    params = [torch.tensor(np.ascontiguousarray(w)) for w in arranged]
    params = [(p.to(memory_format=form) if p.ndim == 4 else p).requires_grad_() for p in params]
    xs, ys = torch.tensor(x.transpose(0, 3, 1, 2).copy()).to(memory_format=form), peer.array(y)

    def loss_of(x: Any, y: Any) -> Any:
        h = x
        for i in (0, 2):
            h = F.max_pool2d(F.relu(F.conv2d(h, params[i], params[i + 1], padding="same")), 2)
        return F.cross_entropy(torch.addmm(params[5], h.flatten(1), params[4]), y)

    compiled = peer.compile(loss_of)
    optimizer = torch.optim.SGD(params, lr=RATE, fused=True)

    def call() -> Any:
        optimizer.zero_grad()
        loss = compiled(xs, ys)
        loss.backward()
        optimizer.step()
        return loss

    return call


MAKERS = {
    "cnn": lambda: Workload(
        "cnn",
        "CNN 28x28, two convolutions with pooling and a dense layer, SGD step, batch 64",
        Bar("≤ 1.0x best", 1.0, "best"),
        pick(alike(cnn_variables, cnn_jax, cnn_torch), initial(), *batch_of(64)),
    ),
}
