"""Handwritten digits: a perceptron with one hidden layer, trained with momentum in mini-batches."""

import time

import numpy as np
from sklearn.datasets import load_digits

import tracejit as tj

digits = load_digits()
images = (digits.data / 16).astype(np.float32)
labels = digits.target.astype(np.int32)
order = np.random.default_rng(0).permutation(len(labels))
train, test = order[:1437], order[1437:]

tj.random.set_seed(1)
params = [
    tj.Variable(tj.random.normal((64, 128), stddev=0.15)),
    tj.Variable(tj.zeros((128,))),
    tj.Variable(tj.random.normal((128, 10), stddev=0.1)),
    tj.Variable(tj.zeros((10,))),
]
velocities = [tj.Variable(tj.zeros_like(p)) for p in params]


def model(x):
    W1, b1, W2, b2 = params
    return tj.nn.relu(x @ W1 + b1) @ W2 + b2


@tj.function
def train_step(x, y):
    with tj.GradientTape() as tape:
        loss = tj.reduce_mean(tj.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=model(x)))
    for p, v, g in zip(params, velocities, tape.gradient(loss, params)):
        v.assign(0.9 * v - 0.05 * g)
        p.assign_add(v)
    return loss


def main(epochs=10, batch=64):
    rng = np.random.default_rng(1)
    for epoch in range(epochs):
        start = time.perf_counter()
        shuffled = rng.permutation(train)
        losses = [float(train_step(images[i], labels[i])) for i in np.split(shuffled, range(batch, len(train), batch))]
        ms = (time.perf_counter() - start) * 1e3
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, {ms:.1f} ms")
    accuracy = float(np.mean(np.argmax(model(images[test]).numpy(), axis=1) == labels[test]))
    print(f"{accuracy:.1%} of the test digits are recognised")
    return accuracy


if __name__ == "__main__":
    main()
