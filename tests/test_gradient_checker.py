"""The gradient checker over the table: every variant of every case, reverse and forward, first and second order.

Reverse mode is compared with central differences, forward mode with reverse mode, second derivatives in both ways with
differences of the first; and all of it in traced functions with the same eagerly. Complex operands are moved along the
real and the imaginary axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from lowerings import compiled
from op_case import Case
from op_table import CASES

import tracejit as tj

LARGEST = 48  # elements of the arguments that are moved one by one
CHUNK = 12
MAPS = [c for c in CASES if c.differentiable and set(c.kinds) & {"f", "c"}]


def variants(case: Case) -> list[tuple[tj.DType, list[np.ndarray]]]:
    """The arguments of a case in float64, and in complex128 where it takes that, in all shapes that are not large."""
    out = []
    for kind, dtype in (("f", tj.float64), ("c", tj.complex128)):
        for i, shapes in enumerate(case.shapes if kind in case.kinds else ()):
            if i == 0 or sum(int(np.prod(s)) for s in shapes) <= LARGEST:
                out.append((dtype, case.arrays(dtype, shapes, seed=i)))
    return out


def moving(case: Case, xs: Sequence[np.ndarray]) -> list[int]:
    return [i for i in range(len(xs)) if i not in case.fixed and xs[i].dtype.kind in "fc"]


def numbers(seed: int, like: Sequence[np.ndarray | tj.Tensor]) -> list[np.ndarray]:
    """Random numbers of the shapes and dtypes of these."""
    rng = np.random.default_rng(seed)
    out = []
    for x in like:
        a = rng.normal(size=tuple(x.shape))
        complex_ = np.dtype(getattr(x.dtype, "np", x.dtype)).kind == "c"
        out.append(a + 1j * rng.normal(size=a.shape) if complex_ else a)
    return out


def called(case: Case, xs: Sequence[object], at: Sequence[int], moved: Sequence[object]) -> tj.Tensor:
    args = list(xs)
    for i, x in zip(at, moved, strict=True):
        args[i] = x
    return case.f(*args)


def known(y: tj.Tensor, seed: tj.Tensor) -> tj.Tensor:
    """The result with its size, where in a trace only the program would know it."""
    return tj.ensure_shape(y, seed.shape)


def pairing(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    """Σ Re(ā b): what a cotangent says of a tangent."""
    return float(sum(np.sum((np.conj(x) * y).real) for x, y in zip(a, b, strict=True)))


def derivatives(case: Case, xs: Sequence[object], given: dict) -> list[tj.Tensor]:
    """The gradient, the tangent, and the gradient's own derivative in reverse over reverse and forward over reverse."""
    at = given["at"]
    sources = [tj.identity(tj.constant(xs[i]) if isinstance(xs[i], np.ndarray) else xs[i]) for i in at]

    def pulled(tape: tj.GradientTape, y: tj.Tensor) -> list[tj.Tensor]:
        return tape.gradient(y, sources, output_gradients=given["seed"], unconnected_gradients="zero")

    with tj.GradientTape() as tape:
        tape.watch(sources)
        y = known(called(case, xs, at, sources), given["seed"])
    first = pulled(tape, y)
    with tj.autodiff.ForwardAccumulator(sources, given["tangents"]) as acc:
        y = known(called(case, xs, at, sources), given["seed"])
    tangent = acc.jvp(y, "zero")
    if not case.second:
        return [*first, tangent]
    with tj.GradientTape() as outer:
        outer.watch(sources)
        with tj.GradientTape() as tape:
            tape.watch(sources)
            y = known(called(case, xs, at, sources), given["seed"])
        g = pulled(tape, y)
    reverse = outer.gradient(g, sources, output_gradients=given["weights"], unconnected_gradients="zero")
    with tj.autodiff.ForwardAccumulator(sources, given["tangents"]) as acc:
        with tj.GradientTape() as tape:
            tape.watch(sources)
            y = known(called(case, xs, at, sources), given["seed"])
        g = pulled(tape, y)
    return [*first, tangent, *reverse, *[acc.jvp(x, "zero") for x in g]]


def arguments(case: Case, xs: Sequence[np.ndarray]) -> dict:
    at = moving(case, xs)
    y = case.f(*[tj.constant(x) for x in xs])
    own = [xs[i] for i in at]
    return {
        "at": at, "seed": tj.constant(numbers(1, [y])[0]), "tangents": [tj.constant(x) for x in numbers(2, own)],
        "weights": [tj.constant(x) for x in numbers(3, own)],
    }  # fmt: skip


def slope(f, xs: Sequence[np.ndarray], along: Sequence[np.ndarray], h: float = 1e-6) -> list[np.ndarray]:
    """The derivative of the arrays that f gives, in this direction."""
    ends = [f([x + s * h * d for x, d in zip(xs, along, strict=True)]) for s in (1, -1)]
    return [(a - b) / (2 * h) for a, b in zip(*ends, strict=True)]


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in MAPS])
def test_against_differences(case: Case):
    for dtype, xs in variants(case):
        given = arguments(case, xs)
        at, n = given["at"], len(given["at"])
        own = [xs[i] for i in at]

        def value(moved, xs=xs, at=at):
            return [called(case, [tj.constant(x) for x in xs], at, [tj.constant(x) for x in moved]).numpy()]

        found = [t.numpy() for t in derivatives(case, xs, given)]
        if not np.isfinite(value(own)[0]).all():
            continue  # as of no numbers: there are no differences of infinities
        seed = given["seed"].numpy()
        tangents, weights = ([t.numpy() for t in given[k]] for k in ("tangents", "weights"))
        what = f"{case.name}, {dtype.name}, {[x.shape for x in xs]}"
        scale = 1 + max((float(np.abs(x).max(initial=0)) for x in found), default=0.0)

        tangent = slope(value, own, tangents)
        assert np.allclose(found[n], tangent[0], rtol=1e-5, atol=1e-6 * scale), f"forward mode of {what}"
        assert pairing(found[:n], tangents) == pytest.approx(pairing([seed], [found[n]]), rel=1e-8, abs=1e-9 * scale), (
            f"reverse mode of {what}"
        )
        if not case.second:
            continue

        def first(moved, xs=xs, given=given, case=case):
            args = list(xs)
            for i, x in zip(given["at"], moved, strict=True):
                args[i] = x
            plain = Case(**{**vars(case), "second": False})
            return [t.numpy() for t in derivatives(plain, args, given)[: len(moved)]]

        bent = slope(first, own, tangents)
        for a, b in zip(found[2 * n + 1 :], bent, strict=True):
            assert np.allclose(a, b, rtol=1e-4, atol=1e-5 * scale), f"forward over reverse of {what}"
        assert pairing(found[n + 1 : 2 * n + 1], tangents) == pytest.approx(
            pairing(weights, found[2 * n + 1 :]), rel=1e-7, abs=1e-8 * scale
        ), f"reverse over reverse of {what}"


CHUNKS = [pytest.param(MAPS[i : i + CHUNK], id=MAPS[i].name) for i in range(0, len(MAPS), CHUNK)]


@pytest.mark.parametrize("cases", CHUNKS)
def test_traced_as_eager(cases: list[Case]):
    work = [(c, xs, arguments(c, xs)) for c in cases for _, xs in variants(c)[:2]]

    def program(args: list) -> list:
        return [derivatives(c, own, given) for own, (c, _, given) in zip(args, work, strict=True)]

    tensors = [[tj.constant(x) for x in xs] for _, xs, _ in work]
    for want, got, (c, xs, _) in zip(program(tensors), compiled(program)(tensors), work, strict=True):
        for i, (a, b) in enumerate(zip(want, got, strict=True)):
            scale = 1 + float(np.abs(a.numpy()).max(initial=0))
            np.testing.assert_allclose(
                b.numpy(), a.numpy(), rtol=1e-8, atol=1e-9 * scale, err_msg=f"{c.name}, {[x.shape for x in xs]}, {i}"
            )
