"""Training steps, written for each framework in its own manner: state updated in place or donated."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from harness import Bar, Workload
from peers import Call, Peer, alike, jax_steps, pick

RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8


def initial(sizes: Sequence[int]) -> list[np.ndarray]:
    """Weights and biases, the same for every framework."""
    rng = np.random.default_rng(3)
    params = []
    for i, o in itertools.pairwise(sizes):
        params += [(rng.standard_normal((i, o)) * np.sqrt(2 / i)).astype(np.float32), np.zeros(o, np.float32)]
    return params


def batch_of(sizes: Sequence[int], batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.standard_normal((batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch).astype(np.int32)


# --- a multi-layer perceptron with Adam -------------------------------------------------------------------------------
def mlp_step(peer: Peer, sizes: Sequence[int], batch: int) -> Call | None:
    """A call that does one step of training on the same batch and returns the loss before it."""
    return pick(alike(mlp_variables, mlp_jax, mlp_torch), initial(sizes), *batch_of(sizes, batch))(peer)


def mlp_variables(peer: Any, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> Call:
    tf = peer.tf
    params = [tf.Variable(w) for w in weights]
    means, squares = ([tf.Variable(np.zeros_like(w)) for w in weights] for _ in range(2))
    count = tf.Variable(np.float32(0))

    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            h = x
            for i in range(0, len(params), 2):
                h = (tf.nn.relu(h) if i else h) @ params[i] + params[i + 1]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=h))
        grads = tape.gradient(loss, params)
        count.assign_add(1.0)
        correct1, correct2 = 1.0 - BETA1**count, 1.0 - BETA2**count
        for p, m, v, g in zip(params, means, squares, grads):
            m.assign(BETA1 * m + (1 - BETA1) * g)
            v.assign(BETA2 * v + (1 - BETA2) * tf.square(g))
            p.assign_sub(RATE * (m / correct1) / (tf.sqrt(v / correct2) + EPSILON))
        return loss

    compiled = peer.function(step)
    xs, ys = peer.array(x), peer.array(y)
    return lambda: compiled(xs, ys)


def mlp_jax(peer: Any, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> Call:
    jax, jnp, m = peer.jax, peer.jnp, peer.m

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        h = x
        for i in range(0, len(params), 2):
            h = (jax.nn.relu(h) if i else h) @ params[i] + params[i + 1]
        return m.cross_entropy(h, y)

    def step(state: Any, x: Any, y: Any) -> Any:
        params, means, squares, count = state
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        count = count + 1
        correct1, correct2 = 1 - BETA1**count, 1 - BETA2**count
        means = [BETA1 * a + (1 - BETA1) * g for a, g in zip(means, grads)]
        squares = [BETA2 * a + (1 - BETA2) * jnp.square(g) for a, g in zip(squares, grads)]
        params = [
            p - RATE * (a / correct1) / (jnp.sqrt(s / correct2) + EPSILON) for p, a, s in zip(params, means, squares)
        ]
        return (params, means, squares, count), loss

    zeros = [np.zeros_like(w) for w in weights]
    return jax_steps(peer, step, (weights, zeros, zeros, np.float32(0)), x, y)


def mlp_torch(peer: Any, weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> Call:
    torch = peer.torch
    F = torch.nn.functional
    params = [torch.tensor(w).requires_grad_(peer.name == "torch") for w in weights]
    xs, ys = peer.array(x), peer.array(y)

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        h = x
        for i in range(0, len(params), 2):
            h = torch.addmm(params[i + 1], F.relu(h) if i else h, params[i])
        return F.cross_entropy(h, y)

    if peer.name == "torch":
        optimizer = torch.optim.Adam(params, lr=RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=True)

        def eager() -> Any:
            optimizer.zero_grad()
            loss = loss_of(params, xs, ys)
            loss.backward()
            optimizer.step()
            return loss

        return eager

    means, squares = ([torch.zeros_like(p) for p in params] for _ in range(2))
    count = torch.zeros(())

    def step(params: Any, means: Any, squares: Any, count: Any, x: Any, y: Any) -> Any:
        grads, loss = torch.func.grad_and_value(loss_of)(params, x, y)
        count.add_(1)
        correct1, correct2 = 1 - BETA1**count, 1 - BETA2**count
        for p, m, v, g in zip(params, means, squares, grads):
            m.copy_(BETA1 * m + (1 - BETA1) * g)
            v.copy_(BETA2 * v + (1 - BETA2) * g * g)
            p.sub_(RATE * (m / correct1) / (torch.sqrt(v / correct2) + EPSILON))
        return loss

    compiled = torch.compile(step)
    return lambda: compiled(params, means, squares, count, xs, ys)


# --- the linear classifier --------------------------------------------------------------------------------------------
def linear_step(peer: Peer) -> Call | None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2000, 2)).astype(np.float32)
    t = (x[:, :1] > 0.3).astype(np.float32)
    w = rng.uniform(size=(2, 1)).astype(np.float32)
    makers = {**alike(linear_variables, linear_jax, linear_torch), "numpy": linear_numpy}
    return makers[peer.name](peer, x, t, w)


def linear_variables(peer: Any, x: np.ndarray, t: np.ndarray, w: np.ndarray) -> Call:
    tf = peer.tf
    W, b = tf.Variable(w), tf.Variable(np.zeros(1, np.float32))

    def step(inputs: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(targets - (tf.matmul(inputs, W) + b)))
        grad_W, grad_b = tape.gradient(loss, [W, b])
        W.assign_sub(grad_W * 0.1)
        b.assign_sub(grad_b * 0.1)
        return loss

    compiled = peer.function(step)
    xs, ts = peer.array(x), peer.array(t)
    return lambda: compiled(xs, ts)


def linear_jax(peer: Any, x: np.ndarray, t: np.ndarray, w: np.ndarray) -> Call:
    jax, jnp = peer.jax, peer.jnp

    def loss_of(params: Any, x: Any, t: Any) -> Any:
        W, b = params
        return jnp.mean(jnp.square(t - (x @ W + b)))

    def step(params: Any, x: Any, t: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(params, x, t)
        return [p - 0.1 * g for p, g in zip(params, grads)], loss

    return jax_steps(peer, step, [w, np.zeros(1, np.float32)], x, t)


def linear_torch(peer: Any, x: np.ndarray, t: np.ndarray, w: np.ndarray) -> Call:
    torch = peer.torch
    W, b, xs, ts = torch.tensor(w), torch.zeros(1), peer.array(x), peer.array(t)

    def loss_of(W: Any, b: Any, x: Any, t: Any) -> Any:
        return torch.mean(torch.square(t - (x @ W + b)))

    if peer.name == "torch":
        W.requires_grad_(), b.requires_grad_()

        def eager() -> Any:
            loss = loss_of(W, b, xs, ts)
            grads = torch.autograd.grad(loss, (W, b))
            with torch.no_grad():
                W.sub_(grads[0], alpha=0.1)
                b.sub_(grads[1], alpha=0.1)
            return loss

        return eager

    def step(W: Any, b: Any, x: Any, t: Any) -> Any:
        (grad_W, grad_b), loss = torch.func.grad_and_value(loss_of, argnums=(0, 1))(W, b, x, t)
        W.sub_(grad_W * 0.1)
        b.sub_(grad_b * 0.1)
        return loss

    compiled = torch.compile(step)
    return lambda: compiled(W, b, xs, ts)


def linear_numpy(peer: Any, x: np.ndarray, t: np.ndarray, w: np.ndarray) -> Call:
    W, b = w.copy(), np.zeros(1, np.float32)
    scale = np.float32(2 / len(x))
    rate = np.float32(0.1)

    def call() -> Any:
        nonlocal W, b
        error = x @ W + b - t
        loss = np.mean(error * error)
        error *= scale
        W = W - rate * (x.T @ error)
        b = b - rate * error.sum(0)
        return loss

    return call


MAKERS = {
    "linear_step": lambda: Workload(
        "linear_step", "linear classifier step, 2000x2", Bar("≤ 5 µs", 5.0), linear_step, tolerance=1e-4
    ),
    **{
        f"mlp_{batch}": lambda batch=batch, limit=limit: Workload(
            f"mlp_{batch}",
            f"MLP 784-512-512-10 Adam step, batch {batch}",
            Bar(f"≤ {limit}x best", limit, "best"),
            lambda peer: mlp_step(peer, (784, 512, 512, 10), batch),
        )
        for batch, limit in ((32, 0.9), (128, 0.9), (1024, 1.0))
    },
    "mlp_small": lambda: Workload(
        "mlp_small",
        "MLP 32-64-64-10 Adam step, batch 32",
        Bar("≤ 0.3x jax", 0.3, "jax"),
        lambda peer: mlp_step(peer, (32, 64, 64, 10), 32),
    ),
}
