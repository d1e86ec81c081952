"""Items of lists, tuples and texts at positions that only the running program knows, read and set."""

import collections

import pytest

import tracejit as tj

GLOBAL = [1.0, 2.0, 3.0]


def of_numbers(i, x):
    return [1, 2.5, 4][i], (1, 2, 3.5)[i]


def of_numbers_and_tensors(i, x):
    return [0.25, x, x * 2.0][i], [3, x, 1.5][i]


def of_text(i, x):
    return "abc"[i], "xyz"[i] + "q"


def set_tensors(i, x):
    w = [x, x + 2.0, x * 3.0]
    w[i] = x * 5.0
    return w


def set_numbers(i, x):
    w = [1, 2, 3]
    w[i] = 7
    return w


def set_of_several_types(i, x):
    w = [1, 2.5, x]
    w[i] += x
    return w[i], [float(y) for y in w]


def set_in_a_loop(i, x):
    w = [0.0] * 6
    for k in range(i + 3):
        w[k] = x * k
    w[i] += 1.0
    return w


def set_global(i, x):
    GLOBAL[i] = x
    return GLOBAL[0] + GLOBAL[1]


def plain(x):
    return [plain(y) for y in x] if isinstance(x, (list, tuple)) else x if isinstance(x, str) else float(x)


EVERY = [of_numbers, of_numbers_and_tensors, of_text, set_tensors, set_numbers, set_of_several_types, set_in_a_loop]


@pytest.mark.parametrize("f", [*EVERY, set_global])
def test_positions_that_are_traced(f):
    traced = tj.function(f, strict=True)
    x = tj.constant(2.0)
    for i in (1, 0, 2, -1):
        found = []
        for g in (f, traced):
            GLOBAL[:] = [1.0, 2.0, 3.0]
            found.append((plain(g(tj.constant(i), x)), plain(GLOBAL)))
        assert found[0] == found[1], i


@pytest.mark.parametrize("f", [of_numbers, of_numbers_and_tensors, of_text, set_tensors, set_numbers])
def test_positions_outside_raise(f):
    for g in (f, tj.function(f, strict=True)):
        with pytest.raises(IndexError):
            g(tj.constant(3), tj.constant(2.0))


def test_an_argument_that_is_a_list_is_set():
    def f(w, i, x):
        w[i] = x
        return w[0] + w[1]

    traced = tj.function(f, strict=True)
    for i in (0, 1, 2):
        lists = [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]
        x = tj.constant(5.0)
        assert float(f(lists[0], tj.constant(i), x)) == float(traced(lists[1], tj.constant(i), x))
        assert plain(lists[0]) == plain(lists[1])


def pairs(n):
    match (n, n + 1):
        case (1, b):
            r = b * 100
        case (a, 3):
            r = a * 1000
        case (a, b):
            r = a + b
    return r


def pairs_in_pairs(n):
    match [n, (n, 3)]:
        case [1, (b, c)]:
            r = b * c
        case (a, (2 | 4 as k, 3)):
            r = a * 1000 + k
        case None | "x" | (_, _, _):
            r = 1
        case (a, _):
            r = -a
    return r


def what_is_no_sequence(n):
    match n:
        case (1, 2):
            r = 4
        case 1:
            r = 5
        case _:
            r = 6
    match "ab":
        case ("a", "b"):
            r = -r
        case (_,):
            r = 7
    return r


@pytest.mark.parametrize("f", [pairs, pairs_in_pairs, what_is_no_sequence])
def test_a_match_takes_tuples_of_tensors_apart(f):
    traced = tj.function(f, strict=True)
    for n in range(5):
        assert int(traced(tj.constant(n))) == int(f(tj.constant(n))), n


def test_a_match_takes_known_sequences_apart():
    Point = collections.namedtuple("Point", "x y")

    def f(x):
        out = []
        for subject in (Point(1, 2), range(2), [1], (1, 2), {1: 2}, b"ab", collections.deque([0, 1])):
            match subject:
                case (0, k):
                    out.append(k * x)
                case (1, k):
                    out.append(k + x)
                case (k,):
                    out.append(k - x)
                case _:
                    out.append(x)
        return out

    x = tj.constant(2.0)
    assert plain(tj.function(f, strict=True)(x)) == plain(f(x))
