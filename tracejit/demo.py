"""The demonstration: two classifiers trained eagerly and traced from the same weights, compared, timed and drawn."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tracejit as tj
from tracejit.progress import Progress

try:
    import matplotlib
except ImportError:
    matplotlib = None  # type: ignore[assignment]
else:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

try:
    from sklearn.datasets import load_digits
except ImportError:
    load_digits = None

Batch = tuple[Any, Any]
Step = Callable[[Any, Any], Any]


@dataclass
class Model:
    """A model's training step and its prediction, closed over its Variables."""

    step: Step
    predict: Callable[[Any], Any]
    variables: Sequence[Any]


@dataclass
class Run:
    """One training: the loss after each step, the time of each, the accuracy on unseen data."""

    losses: np.ndarray
    seconds: np.ndarray
    accuracy: float
    model: Model

    @property
    def ms(self) -> float:
        """Milliseconds per step, without the first ones, which trace and compile or warm the caches."""
        return float(np.median(self.seconds[min(3, len(self.seconds) - 1) :])) * 1e3


@dataclass
class Comparison:
    """A model trained in both ways."""

    name: str
    eager: Run
    traced: Run
    stats: dict[str, Any]

    @property
    def difference(self) -> float:
        """The largest relative difference between the two loss curves over the first 40 steps.

        Rounding errors grow from step to step, so later steps say less about whether the two programs agree.
        """
        a, b = self.eager.losses[:40], self.traced.losses[:40]
        return float(np.max(np.abs(a - b) / np.maximum(np.abs(a), 1e-6)))


# --- the linear classifier ------------------------------------------------------------------------------------------
def two_clouds(rng: np.random.Generator, per_class: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Points of two classes in the plane: the same oblique ellipse around (0, 3) and around (3, 0)."""
    cov = [[1, 0.5], [0.5, 1]]
    negative = rng.multivariate_normal([0, 3], cov, per_class)
    positive = rng.multivariate_normal([3, 0], cov, per_class)
    inputs = np.vstack((negative, positive)).astype(np.float32)
    targets = np.vstack((np.zeros((per_class, 1)), np.ones((per_class, 1)))).astype(np.float32)
    return inputs, targets


def linear_classifier(weights: np.ndarray, learning_rate: float = 0.1) -> Model:
    """prediction = inputs · W + b, fitted to the targets 0 and 1 by gradient descent on the squared error."""
    W = tj.Variable(weights, name="W")
    b = tj.Variable(tj.zeros((1,)), name="b")

    def predict(inputs: Any) -> Any:
        return tj.matmul(inputs, W) + b

    def step(inputs: Any, targets: Any) -> Any:
        with tj.GradientTape() as tape:
            loss = tj.reduce_mean(tj.square(targets - predict(inputs)))
        grad_W, grad_b = tape.gradient(loss, [W, b])
        W.assign_sub(grad_W * learning_rate)
        b.assign_sub(grad_b * learning_rate)
        return loss

    return Model(step, predict, [W, b])


def demo_linear() -> tuple[Comparison, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    inputs, targets = two_clouds(rng)
    unseen, labels = two_clouds(rng)
    weights = rng.uniform(size=(2, 1)).astype(np.float32)
    batches = [(tj.constant(inputs), tj.constant(targets))] * 40

    def accuracy(model: Model) -> float:
        return float(np.mean((model.predict(tj.constant(unseen)).numpy() > 0.5) == (labels > 0.5)))

    name = "linear classifier"
    return compare(name, lambda: linear_classifier(weights), batches, accuracy), inputs, targets


# --- the digits -----------------------------------------------------------------------------------------------------
def mlp(rng: np.random.Generator, sizes: Sequence[int] = (64, 128, 10), learning_rate: float = 2e-3) -> Model:
    """A multi-layer perceptron trained by Adam, whose moments are Variables like the weights."""
    shapes = [s for i, o in itertools.pairwise(sizes) for s in ((i, o), (o,))]
    scales = [np.sqrt(2 / s[0]) if len(s) == 2 else 0.0 for s in shapes]
    params = [tj.Variable((rng.normal(size=s) * c).astype(np.float32)) for s, c in zip(shapes, scales)]
    moments = [(tj.Variable(tj.zeros(s)), tj.Variable(tj.zeros(s))) for s in shapes]
    count = tj.Variable(0.0)

    def predict(x: Any) -> Any:
        for i in range(0, len(params), 2):
            x = (tj.nn.relu(x) if i else x) @ params[i] + params[i + 1]
        return x

    def step(x: Any, y: Any) -> Any:
        with tj.GradientTape() as tape:
            loss = tj.reduce_mean(tj.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=predict(x)))
        count.assign_add(1.0)
        rate = learning_rate * tj.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        for p, (m, v), g in zip(params, moments, tape.gradient(loss, params)):
            m.assign(0.9 * m + 0.1 * g)
            v.assign(0.999 * v + 0.001 * tj.square(g))
            p.assign_sub(rate * m / (tj.sqrt(v) + 1e-7))
        return loss

    return Model(step, predict, [*params, count, *(v for pair in moments for v in pair)])


def demo_digits(fast: bool) -> Comparison:
    """8×8 images of handwritten digits, four fifths for training, the rest unseen until the end."""
    digits = load_digits()
    rng = np.random.default_rng(1)
    order = rng.permutation(len(digits.target))
    x = (digits.data[order] / 16).astype(np.float32)
    y = digits.target[order].astype(np.int32)
    split, size = len(x) * 4 // 5, 64
    batches = []
    for _ in range(2 if fast else 20):
        shuffled = rng.permutation(split)
        batches += [shuffled[i : i + size] for i in range(0, split - size + 1, size)]
    pairs = [(tj.constant(x[b]), tj.constant(y[b])) for b in batches]

    def accuracy(model: Model) -> float:
        return float(np.mean(np.argmax(model.predict(tj.constant(x[split:])).numpy(), axis=1) == y[split:]))

    return compare("digits MLP 64-128-10", lambda: mlp(np.random.default_rng(2)), pairs, accuracy)


# --- training and comparing -----------------------------------------------------------------------------------------
def compare(
    name: str, make: Callable[[], Model], batches: Sequence[Batch], accuracy: Callable[[Model], float]
) -> Comparison:
    """Train two copies of a model on the same batches, one eagerly, one traced, and check that they agree."""
    eager = train(f"{name}, eager", make(), None, batches, accuracy)
    model = make()
    traced_step = tj.function(model.step)
    traced = train(f"{name}, traced", model, traced_step, batches, accuracy)
    result = Comparison(name, eager, traced, traced_step.stats())
    if not result.difference < 1e-2:
        raise AssertionError(f"{name}: eager and traced losses differ by {result.difference:.2%}")
    return result


def train(
    label: str, model: Model, step: Step | None, batches: Sequence[Batch], accuracy: Callable[[Model], float]
) -> Run:
    step = step or model.step
    losses, seconds = [], []
    with Progress(label, len(batches)) as progress:
        for x, y in batches:
            start = time.perf_counter()
            loss = step(x, y)
            seconds.append(time.perf_counter() - start)
            losses.append(float(loss))
            progress.step(f"loss {losses[-1]:.4f}")
    return Run(np.array(losses), np.array(seconds), accuracy(model), model)


# --- showing --------------------------------------------------------------------------------------------------------
COLUMNS = (
    ("model", lambda c: c.name),
    ("loss", lambda c: f"{c.traced.losses[-1]:.4f}"),
    ("test accuracy", lambda c: f"{c.traced.accuracy:.1%}"),
    ("eager ms/step", lambda c: f"{c.eager.ms:.3f}"),
    ("traced ms/step", lambda c: f"{c.traced.ms:.3f}"),
    ("speed-up", lambda c: f"{c.eager.ms / c.traced.ms:.1f}x"),
    ("trace ms", lambda c: f"{c.stats['trace_ms']:.1f}"),
    ("compile ms", lambda c: f"{c.stats['compile_ms']:.1f}"),
    ("kernels", lambda c: f"{c.stats['kernels_unfused']} -> {c.stats['kernels']}"),
    ("loss difference", lambda c: f"{c.difference:.0e}"),
)


def table(comparisons: Sequence[Comparison]) -> str:
    """One column per model; `kernels` is the number before and after fusion."""
    rows = [(title, *(show(c) for c in comparisons)) for title, show in COLUMNS]
    widths = [max(len(row[i]) for row in rows) for i in range(len(comparisons) + 1)]
    lines = ["  ".join([row[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(row[1:], widths[1:]))]) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def plot_points(path: Path, run: Run, inputs: np.ndarray, targets: np.ndarray) -> None:
    """The points and the line w1·x + w2·y + b = 0.5 at which the prediction changes sides."""
    W, b = (v.numpy() for v in run.model.variables)
    x = np.linspace(inputs[:, 0].min(), inputs[:, 0].max(), 100)
    y = -W[0] / W[1] * x + (0.5 - b) / W[1]
    fig, ax = plt.subplots(figsize=(6, 5))
    ax.scatter(inputs[:, 0], inputs[:, 1], c=targets[:, 0], s=6, cmap="coolwarm")
    ax.plot(x, y, "-k", label="w1·x + w2·y + b = 0.5")
    ax.set(title="Two clouds and the line between them", xlabel="x", ylabel="y")
    ax.set_ylim(inputs[:, 1].min(), inputs[:, 1].max())
    ax.legend()
    _save(fig, path)


def plot_losses(path: Path, comparisons: Sequence[Comparison]) -> None:
    fig, axes = plt.subplots(1, len(comparisons), figsize=(6 * len(comparisons), 4), squeeze=False)
    for ax, c in zip(axes[0], comparisons):
        ax.plot(c.eager.losses, label="eager", linewidth=3, alpha=0.4)
        ax.plot(c.traced.losses, label="traced", linewidth=1)
        ax.set(title=c.name, xlabel="step", ylabel="loss", yscale="log")
        ax.legend()
    _save(fig, path)


def plot_times(path: Path, comparisons: Sequence[Comparison]) -> None:
    fig, ax = plt.subplots(figsize=(3 + 2 * len(comparisons), 4))
    at = np.arange(len(comparisons))
    for offset, label in ((-0.2, "eager"), (0.2, "traced")):
        bars = ax.bar(at + offset, [getattr(c, label).ms for c in comparisons], 0.38, label=label)
        ax.bar_label(bars, fmt="%.3f")
    ax.set_xticks(at, [c.name for c in comparisons])
    ax.margins(y=0.25)
    ax.set(title="Time per training step", ylabel="ms (log scale)", yscale="log")
    ax.legend()
    _save(fig, path)


def _save(fig: Any, path: Path) -> None:
    fig.tight_layout()
    fig.savefig(path, dpi=120)
    plt.close(fig)


def run(out: Path, fast: bool = False, plots: bool = True) -> list[Comparison]:
    """Train, print the table, write the pictures into `out`. Raises AssertionError if eager and traced disagree."""
    linear, inputs, targets = demo_linear()
    comparisons = [linear]
    if load_digits is None:
        print("The digits MLP is left out: it needs scikit-learn, which the extra tracejit[demo] installs.")
    else:
        comparisons.append(demo_digits(fast))
    print(table(comparisons))
    if plots and matplotlib is None:
        print("No pictures: they need matplotlib, which the extra tracejit[demo] installs.")
    elif plots:
        out.mkdir(parents=True, exist_ok=True)
        plot_points(out / "points.png", linear.traced, inputs, targets)
        plot_losses(out / "losses.png", comparisons)
        plot_times(out / "times.png", comparisons)
        print(f"Pictures: {', '.join(str(out / n) for n in ('points.png', 'losses.png', 'times.png'))}")
    return comparisons
