"""Handwritten digits again: layers as modules that make their weights at the first call, Adam, and a falling rate."""

import numpy as np
from sklearn.datasets import load_digits

import tracejit as tj

digits = load_digits()
images, labels = (digits.data / 16).astype(np.float32), digits.target.astype(np.int32)
order = np.random.default_rng(0).permutation(len(labels))
train, test = order[:1437], order[1437:]


class Dense(tj.Module):
    def __init__(self, units, activation=None):
        super().__init__()
        self.units, self.activation, self.w = units, activation, None

    def __call__(self, x):
        if self.w is None:
            self.w = tj.Variable(tj.random.normal((x.shape[-1], self.units), stddev=0.1))
            self.b = tj.Variable(tj.zeros((self.units,)))
        y = x @ self.w + self.b
        return y if self.activation is None else self.activation(y)


class Perceptron(tj.Module):
    def __init__(self):
        self.layers = [Dense(128, tj.nn.relu), Dense(64, tj.nn.relu), Dense(10)]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def main(epochs=10, batch=64):
    tj.random.set_seed(1)
    model, rng = Perceptron(), np.random.default_rng(1)
    optimizer = tj.optimizers.Adam(tj.optimizers.schedules.CosineDecay(0.005, epochs * -(-len(train) // batch)))

    @tj.function
    def train_step(x, y):
        with tj.GradientTape() as tape:
            loss = tj.reduce_mean(tj.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=model(x)))
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return loss

    for epoch in range(epochs):
        parts = np.split(rng.permutation(train), range(batch, len(train), batch))
        print(f"epoch {epoch + 1}: loss {np.mean([float(train_step(images[i], labels[i])) for i in parts]):.4f}")
    accuracy = float(np.mean(np.argmax(model(images[test]).numpy(), axis=1) == labels[test]))
    print(f"{accuracy:.1%} of the test digits are recognised")
    return accuracy


if __name__ == "__main__":
    main()
