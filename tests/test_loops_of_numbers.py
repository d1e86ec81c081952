"""Loops of traced functions that compute with Python's numbers alone: they run as they are written."""

import warnings
from decimal import Decimal
from fractions import Fraction

import pytest

import tracejit as tj
from tracejit.autograph import operators
from tracejit.errors import ConversionWarning


def collatz(n, x):
    best, i = 0, 1
    while i < n:
        c, m = 0, i
        while m != 1:
            m = m // 2 if m % 2 == 0 else 3 * m + 1
            c += 1
        if c > best:
            best = c
        i += 1
    return x * best


def primes(n, x):
    count, k = 0, 2
    while True:
        if k >= n:
            break
        prime = True
        for d in range(2, k):
            if d * d > k:
                break
            if k % d == 0:
                prime = False
                break
        k += 1
        if not prime:
            continue
        count += 1
    return x + count


def number_returned(n, x):
    i = 0
    while i < 100:
        i += 1
        if i * i > n:
            return i
    return -1


def tensors_between(n, x):
    s = 0
    for i in range(5):
        s += i
        x = x * s + i
    k = 0
    while k < s:
        k += 3
        s -= 1
    return x, k, s


def texts(n, x):
    t = ""
    while len(t) < n % 7:
        t += "a"
    return x + len(t), t


def unset(n, x):
    i = 0
    while i < 3:
        if i > n:
            q = i * 2
        i += 1
    return x + q


def error(n, x):
    i = n
    while i > -1:
        i -= 1
        q = 6 // i
    return x + q


def rows(n, x):
    s, b, c = 0.0, 0, 0
    for a in (1, 2.5, 3):
        s = max(s, abs(a - 2))
        b, c = s, a
    return x * s + b + c


def without_break(n, x):
    for i in range(5):
        if i == n:
            break
    else:
        return x * 0 - 1
    return x * i


def inner_function(n, x):
    k = 0

    def f():
        nonlocal k
        i = 0
        while i < n:
            i += 1
            k += i

    f()
    return x + k


def tensor_in_a_branch(n, x):
    i = 0
    while i < 4:
        i += 1
        if i > 2:
            x = x + i
    return x


def builtin_replaced(n, x):
    def abs(v):
        return v + x

    i, s = 0, 0
    while i < 3:
        i += 1
        s = s + abs(i)
    return s


FUNCTIONS = [
    collatz, primes, number_returned, tensors_between, texts, unset, error, rows, without_break, inner_function,
    tensor_in_a_branch, builtin_replaced,
]  # fmt: skip


def outcome(f, *args):
    try:
        return str(f(*args))
    except UnboundLocalError:
        return "UnboundLocalError"
    except ZeroDivisionError as e:
        return type(e).__name__


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_such_loops_give_what_python_gives(f):
    traced, x = tj.function(f), tj.constant(2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        for n in (30, 3, 1):
            assert outcome(traced, n, x) == outcome(f, n, x).replace("numpy", "")


def test_no_operator_is_asked_in_such_loops(monkeypatch):
    asked = []
    binary = operators.binary
    monkeypatch.setattr(operators, "binary", lambda *args: asked.append(args) or binary(*args))
    assert float(tj.function(collatz)(30, tj.constant(1.0))) == 111
    assert len(asked) < 20


def test_a_tensor_makes_it_a_loop_of_the_program():
    def f(n, x):
        i = 0
        while i < n:
            i += 1
        return x * i

    traced = tj.function(f)
    assert float(traced(tj.constant(5), tj.constant(2.0))) == 10
    assert float(traced(tj.constant(7), tj.constant(2.0))) == 14
    assert len(traced.traces) == 1 if hasattr(traced, "traces") else True


def generator_of_numbers(x):
    s = 12345
    for _ in range(2000):
        s = (6364136223846793005 * s + 1442695040888963407) % 2**64
    return x * (s % 1000)


def hashed(x):
    h = 7
    for i in range(500):
        h = h * 31 + i
    return x * (h % 101)


def powers(x):
    t = 0.0
    for n in range(100):
        t += float(5**n) % 7
    return x * t


def lengths(x):
    t = 0
    for n in range(300):
        t += n.bit_length()
    return x * t


def lengths_in_branches(x):
    for n in range(300):
        if x > n:
            x = x + n.bit_length()
    return x


@pytest.mark.parametrize("f", [generator_of_numbers, hashed, powers, lengths, lengths_in_branches])
def test_large_integers_and_their_methods(f):
    assert float(tj.function(f, strict=True)(tj.constant(1.0))) == float(f(tj.constant(1.0)))


def length_of_a_count(x):
    n = 0
    while x > n:
        n += 1
    return x * n.bit_length()


def test_a_method_of_a_number_that_the_program_finds():
    with pytest.warns(ConversionWarning, match="bit_length"):
        assert float(tj.function(length_of_a_count)(tj.constant(5.0))) == 15.0


def of_fractions(x):
    t = Fraction(1)
    for i in range(1, 100):
        t = t * i / (i + 1)
    return x * float(t)


def of_decimals(x):
    t = Decimal(1)
    for i in range(100):
        if x > i:
            x = x + float(t)
        t = t * i + 1
        if t > 1000:
            t = Decimal(1)
    return x


@pytest.mark.parametrize("f", [of_fractions, of_decimals])
def test_other_numbers_in_long_loops(f):
    assert abs(float(tj.function(f, strict=True)(tj.constant(2.0))) - float(f(tj.constant(2.0)))) < 1e-3
