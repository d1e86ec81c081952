"""Ranges with tensor bounds, backwards, as lists and in slices, and slices of lists: Python numbers, exactly."""

import pytest

import tracejit as tj


def backwards(n):
    s = 0
    for i in reversed(range(n)):
        s = s * 2 + i
    return s


def backwards_with_steps(n):
    s = 0
    for i in reversed(range(2, n, 3)):
        s = s * 2 + i
    for k, i in enumerate(reversed(range(n))):
        s = s * 2 + i * k
    for k, i in zip(reversed(range(n)), range(n)):
        s = s * 2 + i * k
    return s


def as_a_list(n):
    s = 0
    every = list(range(n))
    for i in every[::-1]:
        s = s * 2 + i
    every.reverse()
    for i in every:
        s = s * 2 + i
    return s, len(range(1, n)), sum(range(n)), len(every)


def sliced(n):
    s = 0
    for i in range(n)[1:]:
        s = s * 2 + i
    for i in range(n)[::-1]:
        s = s * 2 + i
    return s


def enumerated(n):
    q = []
    for i in range(n):
        q.append(i)
    s = t = 0
    for _, i in enumerate(q):
        s = s * 2 + i
    for _, i in zip(q, q):
        t = t * 2 + i
    return s, t


@pytest.mark.parametrize("f", [backwards, backwards_with_steps, as_a_list, sliced, enumerated])
def test_ranges_with_tensor_bounds(f):
    traced = tj.function(f, strict=True)
    for n in (0, 1, 4, 7, 17):
        assert traced(tj.constant(n)) == f(tj.constant(n)), n


def numbers(n):
    every = [3.0, 1.0, 2.0, 4.0, 5.0]
    s = 0.0
    for q in every[:n]:
        s = s * 2.0 + q
    return s, sum(every[n:]), len(every[:n]), every[:-n], [q * 2.0 for q in every[1:n]]


def integers(n):
    every = [3, 1, 2, 4, 5]
    return every[:n], every[n:], sorted(every[1:n]), every[:n][-1]


def tensors(n):
    x = tj.cast(n, tj.float32)
    every = [x, x + 1.0, x * 2.0]
    s = x
    for q in every[:n]:
        s = s * 2.0 + q
    return s


@pytest.mark.parametrize("f", [numbers, integers, tensors])
def test_slices_of_lists_with_tensor_bounds(f):
    traced = tj.function(f, strict=True)
    for n in (1, 2, 4, 5):
        assert traced(tj.constant(n)) == f(tj.constant(n)), n
