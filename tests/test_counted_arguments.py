"""Numbers in arguments that a function counts up, and whose digits Python needs."""

import dataclasses

import pytest

import tracejit as tj


@dataclasses.dataclass
class Net:
    n: int = 0
    rate: float = 0.5


def as_text(x, net):
    net.n += 1
    return f"{net.n}", x


def by_str(x, net):
    net.n = net.n + 1
    s = str(net.n)
    return x * 2, s


def as_key(x, net):
    net.n += 1
    net.rate *= 2
    return {f"step {net.n}": x * net.rate}


def in_dict(x, d):
    d["n"] += 1
    return f"{d['n']}", x


def in_list(x, counts):
    counts[0] += 1
    return f"{counts[0]}", x


CASES = [(as_text, Net), (by_str, Net), (as_key, Net), (in_dict, lambda: {"n": 0}), (in_list, lambda: [0])]


@pytest.mark.parametrize("f, make", CASES)
def test_numbers_of_arguments_are_counted_and_written(f, make):
    traced, one, two = tj.function(f, strict=True), make(), make()
    for i in range(6):
        x = tj.constant(float(i))
        made, want = traced(x, one), f(x, two)
        assert repr(made) == repr(want) and one == two
