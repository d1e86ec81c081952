"""Functions whose surroundings change between their calls, as plain Python and traced."""

import warnings

import numpy as np

import tracejit as tj
from tracejit.errors import ConversionWarning

X = tj.constant(2.0)


def _played(scene, traced, falls_back):
    f, *changes = scene()
    g = tj.function(f) if traced else f
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if falls_back else "error", ConversionWarning)
        for change in [lambda: None, *changes]:
            change()
            for _ in range(3):
                seen.append(np.asarray(g(X)).tolist())
    return seen, g


def check(scene, native=True, falls_back=False):
    """Plays a scene twice: a function, and what changes its surroundings from one call of it to the next."""
    plain, _ = _played(scene, False, False)
    assert len({repr(x) for x in plain}) > 1, "the changes change nothing"
    traced, g = _played(scene, True, falls_back)
    for now, want in zip(traced, plain, strict=True):
        np.testing.assert_allclose(now, want, rtol=1e-6)
    if not falls_back:
        latest = [c for c in g.concrete_functions if c.still_holds()]
        assert [c.reads.native for c in latest] == [native] * len(latest)
    return g


def scenes_of(cases):
    """Collects scenes under the names of the functions that make them."""

    def add(*options, **named):
        def put(scene):
            cases[scene.__name__] = scene, dict(*options, **named)
            return scene

        return put

    return add
