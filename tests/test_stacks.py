"""Lists that loops both add to and take from: stacks, queues, windows. They compile, and do what Python does."""

import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning, OutOfRangeError

V = tj.constant([1.0, -2.0, 3.0, 4.0, -5.0, 6.0])


def plain(x):
    if isinstance(x, (tuple, list)):
        return [type(x).__name__, *map(plain, x)]
    return np.asarray(x).tolist()


def compiles(f, *calls):
    traced = tj.function(f)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        for args in calls:
            assert plain(traced(*args)) == plain(f(*args))


# --- whose length decides how long a loop goes on ---------------------------------------------------------------------
def fibonacci(n):
    todo, total = [n], n * 0
    while todo:
        k = todo.pop()
        if k < 2:
            total = total + k
        else:
            todo.append(k - 1)
            todo.append(k - 2)
    return total


def by_length(n):
    todo, seen = [n], 0
    while len(todo) > 0:
        k = todo.pop()
        seen = seen + len(todo)
        if k > 0:
            todo.extend([k - 1, k - 2])
    return seen


def of_tuples(n):
    todo, deepest = [(n, n * 0)], n * 0
    while todo:
        k, depth = todo.pop()
        if depth > deepest:
            deepest = depth
        if k > 1:
            todo.append((k // 2, depth + 1))
            todo.append((k - 1 - k // 2, depth + 1))
    return deepest


def of_numbers_and_tensors(n):
    nodes, depths, count = [0], [n], 0
    while nodes:
        node, depth = nodes.pop(), depths.pop()
        count += 1
        if depth > 0:
            for child in (1, 2):
                nodes.append(2 * node + child)
                depths.append(depth - 1)
    return count


def queue(n):
    todo, total = [n], n * 0
    while todo:
        k = todo.pop(0)
        total = (total * 3 + k) % 1001
        if k > 0:
            todo.append(k - 1)
            todo.append(k // 2)
    return total


def with_exits(n):
    todo = [n]
    while True:
        if not todo:
            break
        k = todo.pop()
        if k == 4:
            return k * 100
        if k > 0:
            todo.append(k - 1)
    return n


class Stack:
    def __init__(self, first):
        self.items = [first]

    def push(self, x):
        self.items.append(x)

    def pop(self):
        return self.items.pop()

    def __len__(self):
        return len(self.items)


def of_an_object(n):
    todo, count = Stack(n), 0
    while len(todo):
        k = todo.pop()
        count += 1
        if k > 0:
            todo.push(k - 1)
            todo.push(k - 2)
    return count


def made_anew(n):
    todo, count = [n], 0
    while todo:
        k = todo.pop()
        count += 1
        if k > 0:
            todo = todo + [k - 1, k - 2]
    return count


@pytest.mark.parametrize(
    "f",
    [fibonacci, by_length, of_tuples, of_numbers_and_tensors, queue, with_exits, of_an_object, made_anew],
    ids=lambda f: f.__name__,
)
def test_stacks_that_steer_a_loop(f):
    compiles(f, *[(tj.constant(n),) for n in (0, 1, 3, 6)])


@pytest.mark.parametrize("dtype", [tj.uint8, tj.float16, tj.complex64, tj.bool])
def test_items_of_every_dtype(dtype):
    def f(x, n):
        todo, out = [x], x
        while todo and n > 0:
            v = todo.pop()
            out = v
            todo.append(v)
            todo.append(out)
            n = n - 1
        return out, len(todo)

    compiles(f, (tj.cast(tj.constant(1), dtype), tj.constant(4)))


def test_a_list_gets_longer_than_thought():
    def f(n):
        todo, total = [n], n * 0
        while todo:
            k = todo[-1]
            if k > 0:
                todo.append(k - 1)
            else:
                total = total + len(todo)
                todo.clear()
        return total

    g = tj.function(f, strict=True)
    assert [int(g(tj.constant(n))) for n in (2, 5000, 3)] == [3, 5001, 4]


def test_taking_from_an_empty_list_is_an_error():
    def f(n):
        todo = [n]
        while n > 0:
            n = n - todo.pop()
        return n

    g = tj.function(f, strict=True)
    assert int(g(tj.constant(0))) == 0
    with pytest.raises(OutOfRangeError, match="pop from empty list"):
        tj.function(lambda n: taken_twice(n), strict=True)(tj.constant(3))


def taken_twice(n):
    todo = [n, n]
    while n > 0:
        todo.pop()
        n = n - 1
        if n > 100:
            todo.append(n)
    return n


def test_gradients_go_through_a_stack():
    def f(x):
        todo, total = [x], x * 0.0
        while todo:
            v = todo.pop()
            total = total + v * v
            if v > 1.0:
                todo.append(v * 0.5)
                todo.append(v * 0.25)
        return total

    x = tj.constant(5.0)
    found = []
    for g in (f, tj.function(f, strict=True)):
        with tj.GradientTape() as tape:
            tape.watch(x)
            y = g(x)
        found.append((float(y), float(tape.gradient(y, x))))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


# --- in loops over rows -----------------------------------------------------------------------------------------------
def monotonic(v):
    s = []
    for a in v:
        while s and s[-1] > a:
            s.pop()
        s.append(a)
    return s, len(s)


def perhaps_deleted(v):
    s = []
    for a in v:
        if a > 0:
            s.append(a)
        elif s:
            del s[-1]
    return s, len(s)


def cleared(v):
    s = []
    for a in v:
        if a < 0:
            s.clear()
        s.append(a)
    return s


def matched(v):
    s, ok = [], True
    for a in v:
        if a > 0:
            s.append(a)
        else:
            if not s:
                ok = False
                break
            s.pop()
    return ok, len(s)


def window(v):
    s, total = [], 0.0
    for a in v:
        s.append(a)
        if len(s) > 3:
            s.pop(0)
        total = total + sum(s)
    return total, s


def last_changed(v):
    s = [v[0]]
    for a in v:
        s[-1] = s[-1] + a
        if a > 2:
            s.append(a)
        if a < -4:
            s.insert(1, a)
    return s, s[0], s[1:], s[::-1], s[:-1], v[0] in s


@pytest.mark.parametrize(
    "f", [monotonic, perhaps_deleted, cleared, matched, window, last_changed], ids=lambda f: f.__name__
)
def test_stacks_in_loops_over_rows(f):
    compiles(f, (V,), (-V,), (V[::-1],))


def test_rows_of_an_open_size():
    traced = tj.function(monotonic, input_signature=[tj.TensorSpec((None,), tj.float32)], strict=True)
    for n in (4, 7):
        v = tj.constant(np.random.default_rng(n).normal(size=n).astype(np.float32))
        assert plain(traced(v)) == plain(monotonic(v))


def test_items_that_are_matrices():
    def f(x):
        s = []
        for r in x:
            if tj.reduce_sum(r) > -10:
                s.append(r)
            elif len(s) > 0:
                s.pop()
        return s

    compiles(f, (tj.constant(np.arange(12.0).reshape(3, 4) - 5),), (tj.constant(np.arange(28.0).reshape(7, 4) - 20),))


def sorted_by_a_stack(a):
    todo = [(0, 5)]
    a = tj.identity(a)
    while todo:
        lo, hi = todo.pop()
        if lo < hi:
            p, i = a[hi], lo
            for j in range(lo, hi):
                if a[j] < p:
                    t = a[i]
                    a[i] = a[j]
                    a[j] = t
                    i += 1
            t = a[i]
            a[i] = a[hi]
            a[hi] = t
            todo.append((lo, i - 1))
            todo.append((i + 1, hi))
    return a


def test_quicksort():
    assert tj.function(sorted_by_a_stack, strict=True)(V).numpy().tolist() == sorted(V.numpy().tolist())


def test_what_only_the_program_can_count_falls_back():
    def f(n):
        todo, count = [n], 0
        while todo:
            k = todo.pop()
            count += 1
            for i in range(k):  # adds as much as only the program knows
                todo.append(i)
        return count

    with pytest.warns(ConversionWarning, match="plain Python"):
        assert plain(tj.function(f)(tj.constant(4))) == plain(f(tj.constant(4)))


def test_an_iterator_is_not_moved_on_by_a_step_that_is_traced_once():
    def f(v):
        it, total = iter([1, 2, 3]), 0.0
        for a in v:
            total = total + a * next(it, 0)
        return total

    def nested(v):
        it, total = iter([1.0, 2.0, 3.0]), 0.0
        for a in v:
            for b in it:
                total = total + a * b
        return total

    for g in (f, nested):
        assert float(tj.function(g)(V)) == float(g(V))
