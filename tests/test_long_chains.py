"""Long chains of operations that share operands: as many ways lead through them as there are subsets of their links.

What looks through them looks at each operation once, or these programs never end.
"""

import importlib.util

import numpy as np
import pytest

import tracejit as tj

LINKS = 60


def program(tmp_path, first, link, last):
    """The function of x whose lines these are, `link` for each j."""
    lines = [*first, *[line.format(j=j) for j in range(LINKS) for line in link], *last]
    path = tmp_path / "chain.py"
    path.write_text("import tracejit as tj\n\n\ndef f(x):\n" + "".join(f"    {line}\n" for line in lines))
    spec = importlib.util.spec_from_file_location("chain", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.f


IN_A_LOOP = ["for v in x:", "    if v > 100:", "        break", "    n += 1"]
CHAINS = {
    "the best of several": (
        ["best, where, n = 1e9, -1, 0", *IN_A_LOOP],
        ["    e = v * {j}.5", "    if e < best:", "        best, where = e, {j}"],
        ["return best, where, n, x[n - 1]"],
    ),
    "states": (
        ["s, n = 0, 0", "for v in x:"],
        ["    if s == {j} and v > {j}:", "        s = {j} + 1"],
        ["    n += 1", "    if n > 30:", "        break", "return s, n, x[n - 1]"],
    ),
    "swaps": (
        ["n, s = 0, 0", *IN_A_LOOP, "    a, b = 1, 2"],
        ["    if v > {j}.5:", "        a, b = b, a"],
        ["    s = s + a", "return s, n, x[s % 3]"],
    ),
    "flags": (
        ["n, p, q = 0, False, True", *IN_A_LOOP],
        ["    p = (q and v > {j}.5) or p", "    q = p or (q and v < {j})"],
        ["return n, p, q, x[n - 1]"],
    ),
    "tests": (
        ["n, p, q = 0, x[0] > 0, x[1] > 0", "for v in x:"],
        ["    r = tj.logical_and(q, v > -{j}.5)", "    p = tj.logical_and(p, r)", "    q = tj.logical_and(p, r)"],
        ["    if not p:", "        break", "    n += 1", "    assert q", "return n, p, q, x[n - 1]"],
    ),
    "counts": (
        ["n, c = 0, 0", "while c < 50 and n < len(x):", "    v = x[n]", "    n += 1"],
        ["    if v > {j}.5:", "        c += 1"],
        ["return n, c"],
    ),
    "bounds of slices": (
        ["n = tj.cast(x[1], tj.int32)", "m = n"],
        ["n = tj.minimum(n * n + n, n + m)", "m = tj.maximum(n + m, m) // 2"],
        ["return x[: n % 5 + 1], x[tj.abs(m) % 4 :], n"],
    ),
    "sizes": (
        ["n = tj.cast(x[1], tj.int32)", "m = n"],
        ["n = tj.minimum(n + m, 3 + n)", "m = tj.maximum(n + m, m)"],
        ["return tj.zeros([tj.minimum(n, 5)]), tj.reshape(x, tj.stack([tj.minimum(n, 4), 2])), m"],
    ),
    "squares": (
        ["z, n = x[0] * 0.1, 0", "while n < 5:", "    if z > 100:", "        break"],
        ["    z = z * z * 0.5 + z * 0.4"],
        ["    n += 1", "return z, n"],
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_operations_that_are_shared_are_looked_at_once(tmp_path, name):
    f = program(tmp_path, *CHAINS[name])
    x = tj.constant([3.0, 1.0, 2.0, 5.0, 4.0, 7.0, 1.0, 2.0])
    for a, b in zip(tj.function(f)(x), f(x), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5)
