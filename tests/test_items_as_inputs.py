"""Tensors in lists, deques and dicts from outside, of which everything is read, are inputs of the trace."""

import collections
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning

c = tj.constant


class Agent:
    def __init__(self):
        z = tj.zeros((3,))
        self.q = collections.deque([z] * 4, maxlen=4)
        self.w = [tj.zeros((3,)), tj.ones((3,))]
        self.d = {"h": tj.zeros((3,)), "k": tj.ones((3,))}
        self.e = [tj.ones((3,)) * 2.0, 0.5, "a"]
        self.n = [[tj.ones((3,)), tj.zeros((3,))], [tj.ones((3,))]]
        self.two = [z, z]
        self.other = None


def shown(x, seen):
    """Values, and which tensors and containers are one."""
    if isinstance(x, tj.Tensor):
        return (seen.setdefault(id(x), (len(seen), x))[0], np.round(x.numpy(), 4).tolist())
    if isinstance(x, dict):
        return [(k, shown(v, seen)) for k, v in x.items()]
    if isinstance(x, (list, tuple, collections.deque)):
        return [type(x).__name__, getattr(x, "maxlen", None), *[shown(y, seen) for y in x]]
    return x


def values(x):
    if isinstance(x, tj.Tensor):
        return np.round(x.numpy(), 4).tolist()
    if isinstance(x, dict):
        return [(k, values(v)) for k, v in x.items()]
    return [values(y) for y in x] if isinstance(x, (list, tuple, collections.deque)) else x


def agree(f, traces, between=lambda a, i, x: None, calls=6, given=None):
    """`f(a, x)` does the same to an agent traced and plain, call after call, in so many traces."""
    plain, agent = Agent(), Agent()
    traced = tj.function(lambda x: f(agent, x))
    for i in range(calls):
        x = c([i + 1.0, 2.0, -1.0]) if given is None else given(i)
        outcomes = []
        for a, run in ((plain, lambda x: f(plain, x)), (agent, traced)):
            between(a, i, x)
            try:
                outcomes.append(values(run(x)))
            except (ValueError, IndexError, KeyError) as e:
                outcomes.append(type(e).__name__)
        assert outcomes[0] == outcomes[1], i
        assert shown(vars(plain), {}) == shown(vars(agent), {}), i
    if traces is not None:
        assert traced.experimental_get_tracing_count() == traces


def stacked(a, x):
    a.q.append(x)
    return tj.stack(list(a.q))


def summed(a, x):
    a.q.append(x)
    return sum(a.q)


def appended_left(a, x):
    a.q.appendleft(x * 2.0)
    return tj.add_n([*a.q])


def gone_through(a, x):
    a.q.append(x)
    s = 0.0
    for i, q in enumerate(a.q):
        s = s + q * (i + 1.0)
    return s


def zipped(a, x):
    a.q.append(x)
    return [p * q for p, q in zip(a.q, reversed(a.q), strict=True)]


def unpacked(a, x):
    a.w.append(x)
    first, *_, last = a.w
    del a.w[0]
    return first - last


def item_set(a, x):
    a.w[0] = x
    return sum(a.w)


def last_set(a, x):
    a.w[-1] = a.w[-1] + x
    return a.w[0] + a.w[1] + sum(a.w)


def sliced(a, x):
    a.w[:] = [*a.w[1:], x]
    return tj.stack(a.w)


def swapped(a, x):
    a.w[0], a.w[1] = a.w[1], a.w[0]
    a.w.reverse()
    a.w[0] = a.w[0] + x
    a.w.reverse()
    return sum(a.w)


def popped(a, x):
    first = a.w.pop(0)
    a.w.append(x)
    return first + a.w[0]


def popped_left(a, x):
    first = a.q.popleft()
    a.q.append(first + x)
    return first


def rotated(a, x):
    a.q.rotate(1)
    a.q[0] = x
    return tj.stack(list(a.q)) * a.q[1]


def in_dict(a, x):
    a.d["h"] = a.d["h"] + x
    return sum(a.d.values())


def dict_added(a, x):
    a.d["n"] = x
    s = 0.0
    for k, v in a.d.items():
        s = s + v * len(k)
    return s


def kept_elsewhere(a, x):
    a.other = a.w[1]
    a.w[0] = x
    a.d["h"] = a.w[1]
    return sum(a.w)


def mixed(a, x):
    a.e[0] = a.e[0] * 0.5 + x
    t, n, s = a.e
    return t * n if s == "a" else t


def nested(a, x):
    a.n[0].append(x)
    a.n[0].pop(0)
    a.n[1][0] = x * 2.0
    return [sum(r) for r in a.n]


def in_branch(a, x):
    if tj.reduce_sum(x) > 4.0:
        a.w.append(x)
        a.w.pop(0)
    else:
        a.w.append(x * 10.0)
        a.w.pop(1)
    return sum(a.w)


def in_loop(a, x):
    for i in tj.range(3):
        a.w[0] = a.w[0] + x * tj.cast(i, tj.float32)
    return sum(a.w)


def copied(a, x):
    a.w[0] = x
    new = list(a.w) + a.w[:1] + a.w.copy()
    return tj.stack(new), len(a.w)


def comprehended(a, x):
    a.q.append(x)
    return [q * 2.0 for q in a.q], max([tj.reduce_sum(q) for q in a.q])


@pytest.mark.parametrize(
    "f",
    [
        stacked, summed, appended_left, gone_through, zipped, item_set, last_set, sliced, swapped, popped, popped_left,
        rotated, in_dict, kept_elsewhere, mixed, nested, in_branch, in_loop, copied, comprehended, unpacked,
    ],
)  # fmt: skip
def test_what_the_function_changes_and_reads_is_one_trace(f):
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        agree(f, 1)


def test_a_dict_that_gets_a_key_has_a_trace_without_and_one_with_it():
    agree(dict_added, 2)


def only_summed(a, x):
    s = 0.0
    for q in a.q:
        s = s + q * x
    return s


def of_list(a, x):
    return tj.stack(a.w) * x


@pytest.mark.parametrize("f", [only_summed, of_list])
def test_what_callers_change_becomes_an_input(f):
    def between(a, i, x):
        a.q.append(x + 1.0)
        a.w[i % 2] = x - 1.0

    agree(f, 3, between, 12)


def test_what_stays_is_no_input():
    a = Agent()
    f = tj.function(lambda x: sum(a.w) + x)
    for i in range(3):
        f(c([i + 0.0, 1.0, 2.0]))
    (concrete,) = f.concrete_functions
    assert concrete.effects is None


def test_growing_lists_have_a_trace_for_each_length():
    def f(a, x):
        a.w.append(x)
        return sum(a.w)

    agree(f, 5, calls=5)


def test_items_of_another_form():
    def between(a, i, x):
        if i == 2:
            a.w[1] = tj.ones((1,))
        if i == 3:
            a.w[1] = 4.0
        if i == 4:
            a.w[1] = tj.ones((3,), tj.float64)
        if i == 5:
            a.w[1] = tj.ones((3,)) * 7.0

    agree(item_set, 4, between, 8)


def test_an_item_that_becomes_none():
    def f(a, x):
        a.w[0] = x
        return [w + 1.0 for w in a.w if w is not None]

    def between(a, i, x):
        if i in (2, 3, 5):
            a.w[1] = None if i != 3 else x + 1.0

    agree(f, 2, between, 7)


def test_shapes_that_only_python_reads():
    def f(a, x):
        a.q.append(x)
        n = 0
        for q in a.q:
            n += q.shape[0]
        return x * n

    agree(f, None, given=lambda i: tj.ones((i % 3 + 1,)))


def test_a_call_that_fails_changes_nothing():
    def f(a, x):
        a.q.append(x)
        if a.w[0].shape != (3,):
            raise ValueError
        return tj.stack(list(a.q)) + tj.gather(a.w[1], c(9) * tj.cast(x[0] > 2.5, tj.int32))

    a = Agent()
    g = tj.function(lambda x: f(a, x))
    for i in range(5):
        before = shown(vars(a), {})
        try:
            g(c([i * 1.0, 0.0, 0.0]))
        except Exception:
            assert shown(vars(a), {}) == before and i >= 3
        else:
            assert i < 3


def test_identity_of_items():
    def f(a, x):
        a.two[0] = a.two[0] + 0.0 if a.other == 1 else a.two[0]
        n = 1.0 if a.two[0] is a.two[1] else 2.0
        return sum(a.two) * n * x, len({id(t) for t in a.two}), len({t: i for i, t in enumerate(a.two)})

    def between(a, i, x):
        if i == 2:
            a.two[1] = x
        if i == 4:
            a.two[:] = [x, x]
        if i == 6:
            a.other = 1

    agree(f, None, between, 9)


def test_gradients_of_one_tensor_that_stands_twice():
    def f(a, x):
        with tj.GradientTape() as tape:
            tape.watch(a.two[0])
            y = a.two[0] * x + a.two[1] * 3.0
            z = sum(a.two) + y
        g = tape.gradient(z, a.two)
        a.two[1] = a.two[1] + (0.0 if g[1] is None else g[1])
        return [0.0 if t is None else t for t in g]

    def between(a, i, x):
        if i == 3:
            a.two[:] = [x + 1.0] * 2

    agree(f, 2, between)


def test_gradients_within():
    def f(a, x):
        with tj.GradientTape() as tape:
            tape.watch(a.w)
            y = tj.reduce_sum(a.w[0] * a.w[1] * x)
        grads = tape.gradient(y, a.w)
        for i, g in enumerate(grads):
            a.w[i] = a.w[i] - 0.1 * g
        return y

    agree(f, 1)


@pytest.mark.parametrize("name", ["q", "two", "w"])
def test_gradients_outside(name):
    plain, agent = Agent(), Agent()

    def f(a, x):
        held = getattr(a, name)
        held.append(x)
        held.rotate(0) if name == "q" else held.pop(0)
        s = 0.0
        for i, q in enumerate(held):
            s = s + q * q * (i + 1.0) + q * x
        return s

    def both(a, run, x):
        sources = [x, *getattr(a, name)]
        with tj.GradientTape() as tape:
            tape.watch(sources)
            y = run(x) + getattr(a, name)[0]
        return values([0.0 if g is None else g for g in tape.gradient(y, sources)])

    traced = tj.function(lambda x: f(agent, x))
    for i in range(6):
        x = c([i + 1.0, 2.0, 3.0])
        assert both(plain, lambda x: f(plain, x), x) == both(agent, traced, x), i
    assert traced.experimental_get_tracing_count() <= 2


def test_values_that_python_needs_are_constants():
    def f(a, x):
        a.q.append(x)
        return x * float(a.q[0].numpy()[0])

    agree(f, None)


def test_an_error_of_the_users_is_no_reason():
    def f(a, x):
        if a.other is not None:
            raise ValueError("no")
        a.q.append(x)
        return sum(a.q)

    def between(a, i, x):
        a.other = 1 if i == 2 else None

    agree(f, 1, between)


def test_variables_in_lists():
    weights = [tj.Variable([1.0, 2.0]), tj.Variable([3.0, 4.0])]

    @tj.function
    def f(x):
        for v in weights:
            v.assign_add(x)
        return sum(weights)

    for i in range(4):
        r = f(c([1.0, i * 1.0]))
    assert f.experimental_get_tracing_count() == 1
    np.testing.assert_allclose(r, [12.0, 18.0])


def test_an_object_of_which_the_deque_ends():
    import gc
    import weakref

    a = Agent()

    class Held:
        def __init__(self):
            self.q = collections.deque([tj.zeros(2)], maxlen=2)

    def step(h, x):
        return sum(h.q) * x

    f = tj.function(step)
    h = Held()
    ends = weakref.ref(h.q)
    for i in range(5):
        h.q.append(c([1.0, i * 1.0]))
        f(h, c([2.0, 2.0]))
    del h, a
    gc.collect()
    assert ends() is None


Pair = collections.namedtuple("Pair", "h c")


class Cell:
    def __init__(self):
        self.state = (tj.zeros((3,)), tj.ones((3,)))
        self.pair = Pair(tj.zeros((3,)), (tj.ones((3,)), 2.0))
        self.cache = [(tj.zeros((3,)), tj.ones((3,))), (tj.ones((3,)), tj.ones((3,)))]
        self.kept = {"s": (tj.zeros((3,)), 0.5), "n": [1]}
        self.steps = collections.deque([(tj.zeros((3,)), 1.0)] * 3, maxlen=3)
        self.rows = [(tj.ones((3,)), tj.zeros((3,)))]
        self.h = tj.zeros((3,))
        self.count = 0


def agree_on_cells(f, traces, between=lambda a, i, x: None, calls=7):
    plain, cell = Cell(), Cell()
    traced = tj.function(lambda x: f(cell, x))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConversionWarning)
        for i in range(calls):
            x = c([i + 1.0, 2.0, -1.0])
            results = []
            for a, run in ((plain, lambda x: f(plain, x)), (cell, traced)):
                between(a, i, x)
                results.append(values(run(x)))
            assert results[0] == results[1], i
            assert shown(vars(plain), {}) == shown(vars(cell), {}), i
            assert type(cell.pair) is Pair
    if traces is not None:
        assert traced.experimental_get_tracing_count() == traces


def of_a_tuple(a, x):
    h, k = a.state
    a.state = (h * 0.5 + x, k)
    return h + k


def of_a_record(a, x):
    a.pair = a.pair._replace(h=a.pair.h + x)
    h, (k, n) = a.pair
    a.pair = Pair(k, (h, n))
    return h * n + k


def of_a_cache(a, x):
    out = 0.0
    for i in range(2):
        h, k = a.cache[i]
        a.cache[i] = (h * 0.5 + x, k + 1.0)
        out = out + h + k
    a.count += 1
    return out


def of_a_key(a, x):
    h, n = a.kept["s"]
    a.kept["s"] = (h + x * n, n)
    return h


def of_steps(a, x):
    a.steps.append((x, 1.0))
    states, rewards = zip(*a.steps, strict=True)
    return tj.stack(list(states)) * sum(rewards)


def of_rows(a, x):
    a.rows.append((x, x * 2.0))
    a.rows.pop(0)
    return [h + k for h, k in a.rows]


@pytest.mark.parametrize("f", [of_a_tuple, of_a_record, of_a_cache, of_a_key, of_steps, of_rows])
def test_tensors_in_tuples(f):
    agree_on_cells(f, 1)


def test_tuples_of_another_form():
    def between(a, i, x):
        if i == 2:
            a.state = (tj.ones((1,)), x + 1.0)
        if i == 3:
            a.state = (x + 1.0, x + 2.0)
        if i == 5:
            a.state = [x + 1.0, x + 2.0]
        if i == 6:
            a.state = (2.0, x + 1.0)

    agree_on_cells(of_a_tuple, None, between)


def test_a_tuple_of_another_length():
    def f(a, x):
        out = sum(a.state)
        a.state = (*a.state[1:], x)
        return out, len(a.state)

    agree_on_cells(f, 3, lambda a, i, x: setattr(a, "state", (x + 1.0,) * (i // 2 + 1)), 6)


@pytest.mark.parametrize("f", [lambda a, x: a.h * x, lambda a, x: a.state[0] + x, lambda a, x: a.cache[0][0] * x])
def test_what_callers_replace_becomes_an_input(f):
    def between(a, i, x):
        a.h = x + 1.0
        a.state = (x + 2.0, x + 3.0)
        a.cache[0] = (x + 1.0, x + 2.0)

    agree_on_cells(f, 4, between, 12)


def test_an_item_that_is_counted_from_both_ends():
    def f(a, x):
        a.rows[-1] = (a.rows[0][0] + x, a.rows[-1][1])
        return a.rows[0][0] + a.rows[-1][1]

    agree_on_cells(f, 1)


def test_gradients_of_tensors_in_tuples():
    def f(a, x):
        with tj.GradientTape() as tape:
            tape.watch(a.state)
            y = tj.reduce_sum(a.state[0] * a.state[1] * x)
        g = tape.gradient(y, a.state)
        a.state = tuple([s - 0.1 * d for s, d in zip(a.state, g, strict=True)])
        return y

    agree_on_cells(f, 1)


def test_a_tensor_of_before_that_is_compared_with_one_from_outside():
    def f(a, x):
        n = 2.0 if a.h is KEPT else 1.0
        a.h = a.h if a.count == 2 else x * 2.0
        return x * n

    def between(a, i, x):
        a.count = i
        if i in (1, 2):
            a.h = KEPT

    plain, cell = Cell(), Cell()
    traced = tj.function(lambda x: f(cell, x))
    with pytest.warns(ConversionWarning, match="is another one from outside"):
        for i in range(5):
            x = c([i + 1.0, 2.0])
            for a in (plain, cell):
                between(a, i, x)
            assert values(f(plain, x)) == values(traced(x))


KEPT = tj.ones((3,))


def test_attributes_that_are_one_tensor():
    def f(a, x):
        n = 2.0 if a.h is a.other else 1.0
        a.h = a.h + x
        a.other = a.h if n == 1.0 else x * 1.0
        return x * n

    agree_on_cells(f, None, lambda a, i, x: None if i else setattr(a, "other", a.h))


def test_one_new_tensor_in_two_places_is_one():
    def f(a, x):
        a.h = x * 2.0
        a.rows.append((a.h, a.h))
        a.rows.pop(0)
        a.state = (a.rows[0][0], a.h)
        return a.h

    agree_on_cells(f, 1)


def test_containers_that_tuples_hold_tensors_of_are_as_before_when_it_is_traced_again():
    def f(a, x):
        (h, k), _ = a.cache
        a.cache[1] = (k, x)
        return (h + x) * (2.0 if a.rows[0][0] is a.rows[0][1] else 1.0)

    agree_on_cells(f, 1)


def test_numbers_beside_a_tensor_that_is_read_by_its_key_stay_inputs():
    def f(a, x):
        a.kept["n"] = a.kept["n"] + 1 if isinstance(a.kept["n"], int) else 0
        a.kept["t"] = x * 1.0 if a.kept.get("t") is None else a.kept["t"] + x * a.kept["n"]
        return a.kept["t"]

    agree_on_cells(f, 2, calls=12)
