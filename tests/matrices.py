"""What the tests of matrices share: random ones, gradients of real functions of one tensor, and differences."""

import numpy as np

import tracejit as tj


def normal(*shape, seed=0, kind="f"):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return x + 1j * rng.normal(size=shape) if kind == "c" else x


def h(x):
    return np.conj(np.swapaxes(x, -1, -2))


def slopes(f, x):
    """The gradient of a real function of one tensor."""
    return gradient(f, tj.constant(x)).numpy()


def gradient(f, t):
    with tj.GradientTape() as tape:
        tape.watch(t)
        y = f(t)
    return tape.gradient(y, t)


def differences(f, x, step=1e-6):
    """The same by central differences, in the real and in the imaginary parts."""
    g = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        for unit in (1, 1j) if x.dtype.kind == "c" else (1,):
            ends = []
            for s in (step, -step):
                moved = x.copy()
                moved[i] += s * unit
                ends.append(float(f(tj.constant(moved))))
            g[i] += unit * (ends[0] - ends[1]) / (2 * step)
    return g


def weighed(f, seed=5):
    """A real number that depends on all elements of a function's results, in both parts of complex ones."""

    def g(x):
        total = tj.constant(0.0, tj.float64)
        for k, y in enumerate(listed(f(x))):
            w = tj.constant(normal(*y.shape, seed=seed + k, kind=y.dtype.kind))
            p = y * w
            total += tj.reduce_sum(tj.math.real(p) if p.dtype.kind == "c" else p)
        return total

    return g


def listed(y):
    return list(y) if isinstance(y, tuple) else [y]


def definite(x):
    return tj.matmul(x, x, adjoint_b=True) + tj.eye(x.shape[-1], dtype=x.dtype)


def scaled(v, e):
    return v * tj.cast(e, v.dtype)[..., None, :]


def first(v, k):
    return v[..., :k]
