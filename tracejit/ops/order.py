"""In which order the terms of a sum of products are contracted, two at a time."""

from __future__ import annotations

import functools
import importlib
import itertools
import math
from collections.abc import Sequence

Labels = tuple[str, ...]
EXACT = 6  # terms up to which all orders are compared


def contraction_order(
    terms: Sequence[Labels], result: Labels, sizes: dict[str, int], how: str = "greedy"
) -> list[tuple[int, int]]:
    """Pairs of positions: two terms are taken out of the list, and what they make comes to its end.

    Of up to six terms all orders are compared, and the one with the fewest products is taken. Of more the pair whose
    result is the smallest beside its terms goes first, unless `how` names another search of opt_einsum's and that
    package is there.
    """
    if len(terms) < 3:
        return [(0, 1)] * (len(terms) - 1)
    used = {n for t in terms for n in t}
    known = tuple(sorted((n, max(d, 1)) for n, d in sizes.items() if n in used))
    return list(_order(tuple(terms), result, known, how))


@functools.lru_cache
def _order(terms: tuple[Labels, ...], result: Labels, sizes: tuple[tuple[str, int], ...], how: str) -> tuple:
    sets, kept, of = [frozenset(t) for t in terms], frozenset(result), dict(sizes)
    if len(terms) <= EXACT:
        return tuple(_fewest(sets, kept, of))
    if how != "greedy" and (found := _by_opt_einsum(sets, kept, of, how)) is not None:
        return found
    return tuple(_greedy(sets, kept, of))


def _volume(labels: frozenset[str], sizes: dict[str, int]) -> int:
    return math.prod(sizes[n] for n in labels)


def _fewest(sets: list[frozenset[str]], kept: frozenset[str], sizes: dict[str, int]) -> list[tuple[int, int]]:
    """The best order for each set of terms, from the best ones for its parts."""
    count = len(sets)
    everything = (1 << count) - 1
    labels: dict[int, frozenset[str]] = {}
    for s in range(1, everything + 1):
        inside = frozenset().union(*[t for i, t in enumerate(sets) if s >> i & 1])
        outside = kept.union(*[t for i, t in enumerate(sets) if not s >> i & 1])
        labels[s] = inside & outside
    for i, t in enumerate(sets):
        labels[1 << i] = t
    best: dict[int, tuple[int, int, int]] = {1 << i: (0, 0, 0) for i in range(count)}  # products, elements, one part
    for s in sorted(range(1, everything + 1), key=int.bit_count):
        if s in best:
            continue
        low, options, part = s & -s, [], (s - 1) & s
        while part:
            if part & low:
                other = s ^ part
                cost = best[part][0] + best[other][0] + _volume(labels[part] | labels[other], sizes)
                room = best[part][1] + best[other][1] + _volume(labels[s], sizes)
                options.append((cost, room, part))
            part = (part - 1) & s
        best[s] = min(options)
    return _as_pairs(best, count)


def _as_pairs(best: dict[int, tuple[int, int, int]], count: int) -> list[tuple[int, int]]:
    listed = [1 << i for i in range(count)]
    pairs: list[tuple[int, int]] = []

    def contract(s: int) -> None:
        part = best[s][2]
        if not part:
            return
        contract(part)
        contract(s ^ part)
        i, j = sorted((listed.index(part), listed.index(s ^ part)))
        pairs.append((i, j))
        del listed[j], listed[i]
        listed.append(s)

    contract((1 << count) - 1)
    return pairs


def _greedy(sets: list[frozenset[str]], kept: frozenset[str], sizes: dict[str, int]) -> list[tuple[int, int]]:
    terms, pairs = list(sets), []
    while len(terms) > 1:

        def made(i: int, j: int, terms: list[frozenset[str]] = terms) -> frozenset[str]:
            rest = kept.union(*[t for k, t in enumerate(terms) if k not in (i, j)])
            return (terms[i] | terms[j]) & rest

        def cost(pair: tuple[int, int], terms: list[frozenset[str]] = terms) -> tuple[int, int, int]:
            i, j = pair
            grown = _volume(made(i, j), sizes) - _volume(terms[i], sizes) - _volume(terms[j], sizes)
            return (not terms[i] & terms[j], grown, _volume(terms[i] | terms[j], sizes))

        i, j = min(itertools.combinations(range(len(terms)), 2), key=cost)
        pairs.append((i, j))
        terms = [*[t for k, t in enumerate(terms) if k not in (i, j)], made(i, j)]
    return pairs


def _by_opt_einsum(
    sets: list[frozenset[str]], kept: frozenset[str], sizes: dict[str, int], how: str
) -> tuple[tuple[int, int], ...] | None:
    """The order that the package opt_einsum finds; None without it."""
    try:
        search = importlib.import_module("opt_einsum")
    except ImportError:
        return None
    letter = {n: search.get_symbol(i) for i, n in enumerate(sizes)}
    texts = ["".join(letter[n] for n in sorted(t)) for t in (*sets, kept)]
    shapes = [tuple(sizes[n] for n in sorted(t)) for t in sets]
    equation = f"{','.join(texts[:-1])}->{texts[-1]}"
    path, _ = search.contract_path(equation, *shapes, shapes=True, optimize=how)
    if any(len(p) > 2 for p in path):
        return None
    return tuple([(min(p), max(p)) for p in path if len(p) == 2])
