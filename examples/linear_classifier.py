"""Two clouds of points in the plane, separated by a line that gradient descent finds."""

import numpy as np

import tracejit as tj

rng = np.random.default_rng(0)
cov = [[1, 0.5], [0.5, 1]]
negative = rng.multivariate_normal([0, 3], cov, 1000)
positive = rng.multivariate_normal([3, 0], cov, 1000)
inputs = np.vstack((negative, positive)).astype(np.float32)
targets = np.vstack((np.zeros((1000, 1)), np.ones((1000, 1)))).astype(np.float32)

tj.random.set_seed(0)
W = tj.Variable(tj.random.uniform(shape=(2, 1)))
b = tj.Variable(tj.zeros(shape=(1,)))
learning_rate = 0.1


def model(x):
    return tj.matmul(x, W) + b


@tj.function
def training_step(x, y):
    with tj.GradientTape() as tape:
        loss = tj.reduce_mean(tj.square(y - model(x)))
    grad_W, grad_b = tape.gradient(loss, [W, b])
    W.assign_sub(grad_W * learning_rate)
    b.assign_sub(grad_b * learning_rate)
    return loss


def main():
    for step in range(40):
        loss = training_step(inputs, targets)
        if step % 5 == 4:
            print(f"step {step + 1}: loss {loss:.4f}")
    correct = np.mean((model(inputs).numpy() > 0.5) == (targets > 0.5))
    (w1,), (w2,) = W.numpy()
    print(f"{correct:.1%} of the points lie on their side of {w1:.3f} x + {w2:.3f} y + {b.numpy()[0]:.3f} = 0.5")
    return float(correct)


if __name__ == "__main__":
    main()
