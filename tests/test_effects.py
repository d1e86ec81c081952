"""What traced functions do to Python objects happens as in Python: on every call, in order, with that call's values."""

import collections
import dataclasses
import gc
import io
import itertools
import logging
import pdb
import random
import sys
import threading
import warnings
import weakref

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning

X = np.array([1.0, -2.0, 3.0])
TOTAL = 0


def plain(x):
    """An observation without tensors."""
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple, collections.deque)):
        return [plain(v) for v in x]
    if isinstance(x, set):
        return sorted(x)
    if isinstance(x, (tj.Variable, tj.Tensor, np.ndarray, np.generic)):
        return np.asarray(x).tolist()
    return x


def same(scene):
    """The scene with plain functions and with traced ones shows the same."""
    want, got = plain(scene(lambda f: f)), plain(scene(tj.function))
    assert got == want
    return got


class Thing:
    def __init__(self, **fields):
        self.__dict__.update(fields)


# --- containers -------------------------------------------------------------------------------------------------------
def test_methods_of_lists():
    def scene(wrap):
        xs = [0.0]

        @wrap
        def f(x):
            xs.append(x)
            xs.extend([x * 2.0, "text"])
            xs.insert(1, x + 1.0)
            xs.reverse()
            xs.remove("text")

        f(tj.constant(1.0))
        f(tj.constant(5.0))
        return xs

    same(scene)


def test_methods_of_dicts_sets_and_deques():
    def scene(wrap):
        d, s, q = {"a": 0}, {1}, collections.deque(maxlen=3)
        counts, groups = collections.Counter(), collections.defaultdict(list)

        @wrap
        def f(x, k):
            d.update({"b": x}, c=[x, x])
            d["e"] = {"x": x}
            s.add(k)
            s.discard(1)
            q.append(x)
            q.appendleft(k)
            counts["calls"] += 1
            groups[k].append(x)
            d.setdefault("first", x)

        for i, k in enumerate("pqp"):
            f(tj.constant(float(i)), k)
        return [d, s, q, counts, groups]

    same(scene)


def test_items_and_slices():
    def scene(wrap):
        xs, d, i = [0.0, 1.0, 2.0, 3.0], {("a", 1): 0.0}, 1

        @wrap
        def f(x):
            xs[i + 1] = x
            xs[-1] = x * 2.0
            xs[0:1] = [x, x]
            d["a", i] = x
            d[str(i) + "!"] = x
            del xs[2]
            if "gone" in d:
                del d["gone"], d["gone too"]

        f(tj.constant(1.0))
        d["gone"] = d["gone too"] = 1
        f(tj.constant(5.0))
        return [xs, d]

    same(scene)


def test_assignments_in_place():
    def scene(wrap):
        s = Thing(xs=[], seen=set(), d={})
        xs = s.xs

        @wrap
        def f(x):
            s.xs += [x]
            s.seen |= {"a"}
            s.d |= {"k": x}

        f(tj.constant(1.0))
        f(tj.constant(2.0))
        return [s.xs, s.seen, s.d, s.xs is xs]

    same(scene)


def test_what_the_function_made_is_its_own():
    @tj.function
    def f(x):
        class Box:
            def __init__(self):
                self.items = []

        def visit(n):
            if n > 0:
                out.append(x * n)
                visit(n - 1)

        out, table, box = [], {}, Box()
        visit(3)
        table["a"] = x
        table["a"] += 1.0
        box.items.append(x)
        box.n = 1
        return tj.stack(out), table["a"], box.items[0] + box.n

    for k in (1.0, 2.0):
        stacked, a, b = f(tj.constant(k))
        assert stacked.numpy().tolist() == [3 * k, 2 * k, k]
        assert (float(a), float(b)) == (k + 1, k + 1)
    assert f.experimental_get_tracing_count() == 1
    assert f.concrete_functions[0].effects is None


def test_containers_made_by_the_function_are_new_in_each_call():
    def scene(wrap):
        s = Thing(last=None, both=None)

        @wrap
        def f(x):
            inner = [x]
            s.last = {"inner": inner, "n": 3, "t": (x, inner)}
            s.both = inner
            inner.append(x * 2.0)

        out = []
        for k in (1.0, 2.0):
            f(tj.constant(k))
            assert s.both is s.last["inner"] is s.last["t"][1]
            s.last["inner"].append("mine")
            out.append(s.last)
        return out

    same(scene)


def test_objects_made_by_the_function_hold_the_values_of_the_call():
    def scene(wrap):
        s = Thing(point=None)

        @wrap
        def f(x):
            p = Thing(x=x * 2.0, tag="a")
            p.y = x
            s.point = p

        out = []
        for k in (1.0, 2.0):
            f(tj.constant(k))
            out.append(s.point)
        return [(p.x, p.y, p.tag) for p in out]

    same(scene)


def test_a_list_used_as_a_stack():
    def scene(wrap):
        stack, names = [], ["root"]

        @wrap
        def f(x):
            names.append("f")
            stack.append(x)
            y = stack[-1] * 2.0
            stack.append(y)
            z = stack.pop() + stack.pop()
            names.pop()
            return z

        return [f(tj.constant(1.0)), f(tj.constant(2.0)), stack, names]

    same(scene)


def test_a_history_of_bounded_length():
    def scene(wrap):
        history = []

        @wrap
        def f(x):
            history.append(x)
            if len(history) > 3:
                history.pop(0)
            return x * len(history)

        return [f(tj.constant(float(k))) for k in range(6)] + history

    same(scene)


def test_a_container_that_is_read_and_changed():
    def scene(wrap):
        d = {"n": 0, "m": 2.0}

        @wrap
        def f(x):
            d["n"] += 1
            for k in d:
                x = x + d[k]
            return x

        out = [f(tj.constant(1.0)), f(tj.constant(1.0))]
        d["new"] = 10.0
        return [*out, f(tj.constant(1.0)), d]

    same(scene)


def test_containers_among_the_arguments():
    def scene(wrap):
        @wrap
        def f(cache, xs, x):
            cache["k"] = x
            cache["inner"]["n"] = 1
            xs.append(x * 2.0)
            for i in tj.range(2):
                if i > 0:
                    xs.append(x)
            return x

        cache, xs = {"inner": {}}, []
        for k in (1.0, 2.0):
            f(cache, xs[:0], tj.constant(k))
        f({"inner": {}}, xs, tj.constant(3.0))
        return [cache, xs]

    same(scene)


# --- numbers and tensors that are read and written --------------------------------------------------------------------
def test_numbers_go_on_without_new_traces():
    s, d, xs = Thing(n=0, f=0.5), {"n": 0}, [1, 2.0]

    @tj.function
    def f(x):
        global TOTAL
        s.n += 1
        s.f = s.f * 2
        d["n"] += s.n
        xs[0] -= 1
        TOTAL += 1
        return x * s.n + TOTAL

    before = TOTAL
    out = [float(f(tj.constant(1.0))) for _ in range(5)]
    assert out == [2 * k + before for k in range(1, 6)]
    assert (s.n, s.f, d, xs, TOTAL - before) == (5, 16.0, {"n": 15}, [-4, 2.0], 5)
    assert [type(v) for v in (s.n, s.f, d["n"], xs[0], TOTAL)] == [int, float, int, int, int]
    assert f.experimental_get_tracing_count() == 1
    s.n = 100
    assert float(f(tj.constant(1.0))) == 101 + TOTAL


def test_numbers_that_steer_python():
    def scene(wrap):
        s = Thing(n=0)

        @wrap
        def f(x):
            s.n = s.n + 1
            if s.n % 2 == 0:
                return x * 10.0
            return x

        return [f(tj.constant(1.0)) for _ in range(5)] + [s.n]

    same(scene)


def test_kinds_that_change_at_a_place():
    def scene(wrap):
        s = Thing(v=1)

        @wrap
        def f(x):
            s.v = s.v * x
            return s.v

        out = [f(tj.constant(2.0)), f(tj.constant(3.0))]
        s.v = 2
        out.append(f(tj.constant(3.0)))
        s.v = tj.constant([1.0, 2.0])
        out += [f(tj.constant(3.0)), f(tj.constant(3.0)), f(tj.constant([1.0, 4.0]))]
        return [*out, s.v]

    same(scene)


def test_a_number_that_outgrows_int32():
    s = Thing(n=2**31 - 2)

    @tj.function
    def f(x):
        s.n += 1
        return x

    for _ in range(3):
        f(X)
    assert s.n == 2**31 + 1


def test_a_tensor_that_is_carried_from_call_to_call():
    def scene(wrap):
        cell = tj.constant([0.0, 0.0])

        @wrap
        def f(x):
            nonlocal cell
            cell = cell * 0.5 + x
            return cell

        out = [f(tj.constant([1.0, 2.0])) for _ in range(4)]
        cell = tj.constant([8.0, 8.0])
        return [*out, f(tj.constant([1.0, 2.0])), cell]

    same(scene)


def test_gradients_through_what_is_carried():
    s = Thing(h=tj.constant(1.0))

    @tj.function
    def step(w):
        s.h = s.h * w
        return s.h

    w = tj.constant(3.0)
    with tj.GradientTape() as tape:
        tape.watch(w)
        for _ in range(3):
            y = step(w)
        z = y + s.h
    assert float(tape.gradient(z, w)) == 54.0


def test_numbers_in_branches_and_loops():
    def scene(wrap):
        s = Thing(hits=0, best=-1.0)

        @wrap
        def f(x, n):
            if x > 0:
                s.hits += 1
            for _ in tj.range(n):
                if x > s.best:
                    s.best = s.best + x
            return x * s.hits

        out = [f(tj.constant(k), tj.constant(3)) for k in (1.0, -1.0, 2.0)]
        return [*out, s.hits, s.best]

    same(scene)


# --- branches and loops -----------------------------------------------------------------------------------------------
def test_appending_in_branches_and_loops_keeps_the_order():
    def scene(wrap):
        seen = ["start"]

        @wrap
        def f(x, n):
            seen.append("begin")
            for i in tj.range(n):
                if i % 2 == 0:
                    seen.append(x * tj.cast(i, tj.float32))
                else:
                    seen.extend(["odd", i])
            seen.append(x)
            while x > 1.0:
                x = x / 2.0
                seen.insert(0, x)
            seen.append("end")
            return x

        for k in (3, 0, 2):
            f(tj.constant(4.0), tj.constant(k))
        return seen

    same(scene)


def test_lists_of_the_function_grow_in_a_loop():
    def scene(wrap):
        @wrap
        def f(x):
            out = []
            for i in range(100):
                out.append(x + i)
            return tj.stack(out)

        return f(tj.constant(1.0))

    same(scene)


# --- what is called ---------------------------------------------------------------------------------------------------
def test_iterators_random_numbers_and_times():
    numbers, rng, pairs = itertools.count(5), np.random.default_rng(0), iter([(1, X), (2, X * 2), (3, X * 3)])

    @tj.function
    def f(x):
        k, row = next(pairs)
        return x * next(numbers), x + random.random(), rng.normal(size=2) + x, row * k, x * next(iter([4, 5]))

    random.seed(3)
    out = [f(tj.constant(1.0)) for _ in range(3)]
    random.seed(3)
    again = np.random.default_rng(0)
    assert [float(a) for a, *_ in out] == [5, 6, 7]
    np.testing.assert_allclose([float(b) for _, b, *_ in out], [1 + random.random() for _ in range(3)], 1e-6)
    np.testing.assert_allclose([c for _, _, c, *_ in out], [1 + again.normal(size=2) for _ in range(3)])
    assert [d.numpy().tolist() for *_, d, _ in out] == [(X * k * k).tolist() for k in (1, 2, 3)]
    assert [float(e) for *_, e in out] == [4, 4, 4]
    assert f.experimental_get_tracing_count() == 1


def test_logging_shows_the_values_of_the_call(caplog):
    log = logging.getLogger("effects")

    @tj.function
    def f(x):
        log.info("x is %s", x)
        logging.warning(f"twice {x * 2.0}")

    with caplog.at_level(logging.INFO):
        f(tj.constant(1.0))
        f(tj.constant(4.0))
    assert [r.getMessage() for r in caplog.records] == [
        "x is tj.Tensor(1.0, shape=(), dtype=float32)", f"twice {tj.constant(2.0)}",
        "x is tj.Tensor(4.0, shape=(), dtype=float32)", f"twice {tj.constant(8.0)}",
    ]  # fmt: skip
    first = f.python_function.__code__.co_firstlineno
    assert {(r.filename, r.funcName) for r in caplog.records} == {("test_effects.py", "f")}
    assert [r.lineno - first for r in caplog.records] == [2, 3] * 2


@pytest.mark.parametrize("name", ["breakpoint", "set_trace"])
def test_breakpoints_stop_in_each_call(monkeypatch, name):
    seen = []

    def set_trace():
        seen.append(float(sys._getframe(1).f_locals["y"]))

    monkeypatch.setattr(sys, "breakpointhook", set_trace)
    monkeypatch.setattr(pdb, "set_trace", set_trace)
    stop = {"breakpoint": breakpoint, "set_trace": pdb.set_trace}[name]

    @tj.function
    def f(x):
        y = x * 2
        stop()
        return y

    with pytest.warns(ConversionWarning, match="stops in it") as said:
        out = [float(f(tj.constant(v))) for v in (1.0, 2.0)]
    assert len(said) == 1 and out == seen == [2.0, 4.0]


# --- failures, ends, what cannot be replayed --------------------------------------------------------------------------
def test_a_failed_call_does_nothing():
    seen, s = [], Thing(n=0)

    @tj.function
    def f(x):
        seen.append(x)
        s.n += 1
        if x > 5:
            seen.append("large")
        tj.debugging.assert_greater(x, 0.0)
        return x

    f(tj.constant(1.0))
    for bad in (-1.0, -2.0):
        with pytest.raises(tj.errors.TracejitError):
            f(tj.constant(bad))
    f(tj.constant(6.0))
    assert plain(seen) == [1.0, 6.0, "large"]
    assert s.n == 2


def test_a_trace_that_fails_leaves_all_as_it_was():
    seen, s = [], Thing(n=0, d={})

    @tj.function
    def f(x):
        s.n += 1
        s.new = x
        s.d["k"] = x
        seen.append(x)
        raise KeyError("mine")

    for _ in range(2):
        with pytest.raises(KeyError, match="mine"):
            f(tj.constant(1.0))
    assert (seen, s.n, s.d, hasattr(s, "new")) == ([], 0, {}, False)


def test_values_taken_out_run_as_python_with_one_warning():
    queue = [1.0, 2.0, 3.0]

    @tj.function
    def f(x):
        return x * queue.pop(0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [float(f(tj.constant(2.0))) for _ in range(3)] == [2, 4, 6]
    assert [w.category for w in caught] == [ConversionWarning]
    assert "queue.pop(0)" in str(caught[0].message)


def test_iterators_that_are_gone_through_run_as_python_with_one_warning():
    numbers = iter([1.0, 2.0, 3.0])

    @tj.function
    def f(x):
        for k in numbers:
            x = x + k
        return x

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [float(f(tj.constant(1.0))) for _ in range(2)] == [7, 1]
    assert [w.category for w in caught] == [ConversionWarning]


def test_objects_with_effects_are_collected():
    @tj.function
    def step(s, x):
        s.n += 1
        s.last = x
        return x * s.n

    s = Thing(n=0)
    for _ in range(3):
        step(s, tj.constant(1.0))
    assert s.n == 3
    ref = weakref.ref(s)
    del s
    gc.collect()
    assert ref() is None


def test_effects_of_inner_functions():
    def scene(wrap):
        seen, s = [], Thing(n=0)

        def helper(x):
            seen.append(x)
            s.n += 1
            return x * s.n

        @wrap
        def inner(x):
            seen.append("inner")
            return helper(x)

        @wrap
        def outer(x):
            return inner(x) + helper(x)

        return [outer(tj.constant(1.0)), outer(tj.constant(2.0)), inner(tj.constant(3.0)), seen, s.n]

    same(scene)


def test_results_and_effects_share_tensors():
    seen = []

    @tj.function
    def f(x):
        y = x * 2.0
        seen.append(y)
        seen.append(x)
        return y, x

    for k in (1.0, 2.0):
        y, x = f(tj.constant(k))
        assert (float(y), float(x)) == (2 * k, k)
    assert plain(seen) == [2.0, 1.0, 4.0, 2.0]


# --- setters ----------------------------------------------------------------------------------------------------------
class Watched:
    """Assignments that run code of the user's."""

    def __init__(self):
        object.__setattr__(self, "log", [])
        self._level, self.sets = 0.0, 0

    def __setattr__(self, name, value):
        self.log.append(name)
        super().__setattr__(name, value)

    @property
    def level(self):
        return self._level

    @level.setter
    def level(self, value):
        self._level = value
        self.sets += 1


class Half(Thing):
    @property
    def half(self):
        return self.whole / 2

    @half.setter
    def half(self, value):
        self.whole = value * 2


def test_setters_run_once_in_each_call():
    def scene(wrap):
        w, h = Watched(), Half(whole=8.0)

        @wrap
        def f(x):
            w.level = w.level + x
            w.last = x
            h.half = h.half + 1
            h.half += 1
            return w.level * h.whole

        return [f(tj.constant(1.0)), f(tj.constant(2.0)), w.log, w.level, w.sets, w.last, h.whole]

    same(scene)


def test_owners_that_cannot_be_named_twice():
    def scene(wrap):
        boxes, asked = [Thing(n=0, d={}), Thing(n=0, d={})], []

        def box(i):
            asked.append(i)
            return boxes[i]

        @wrap
        def f(x):
            box(0).n = x
            box(1).n += 1
            boxes[len(boxes) - 1].d[str(len(asked))] = x
            box(0).d["a"], box(1).d["b"] = x, x * 2.0

        f(tj.constant(1.0))
        f(tj.constant(2.0))
        return [[(b.n, b.d) for b in boxes], asked]

    same(scene)


# --- places of other kinds --------------------------------------------------------------------------------------------
@dataclasses.dataclass
class State:
    n: int
    v: object


class Slots:
    __slots__ = ("__weakref__", "n", "v")

    def __init__(self):
        self.n, self.v = 0, tj.constant(0.0)


@pytest.mark.parametrize("make", [lambda: State(0, tj.constant(1.0)), Slots, lambda: Thing(n=0, v=tj.constant(2.0))])
def test_objects_that_are_captured_or_given(make):
    def scene(wrap):
        captured, given = make(), make()

        @wrap
        def f(s, x):
            for t in (s, captured):
                t.n += 1
                t.v = t.v + x * t.n
            return s.v

        return [f(given, tj.constant(k)) for k in (1.0, 2.0)] + [(t.n, t.v) for t in (captured, given)]

    same(scene)


def test_class_attributes_and_local_closures():
    def scene(wrap):
        class Counter:
            count = 0
            rate = 0.5

        c = Counter()

        @wrap
        def f(x):
            k = 0

            def bump():
                nonlocal k
                k += 1

            bump()
            bump()
            Counter.count += 1
            c.rate = c.rate * 2
            return x * k * Counter.count * c.rate

        out = [f(tj.constant(1.0)) for _ in range(3)]
        return [*out, Counter.count, Counter.rate, c.rate]

    same(scene)


def test_a_branch_that_leaves_a_place_as_it_is():
    def scene(wrap):
        s, d = Thing(v=None, name="a"), {"n": 0, "best": None}

        @wrap
        def f(x):
            if x > 0:
                s.v = x
                d["n"] += 1
            if x > 1:
                d["best"] = x
            return x

        out = []
        for k in (-1.0, 2.0, -2.0, 0.5, 3.0, -1.0):
            f(tj.constant(k))
            out.append((s.v, dict(d)))
        return out

    same(scene)


def test_state_that_is_made_when_it_is_needed():
    def scene(wrap):
        s, groups = Thing(v=None), {}

        @wrap
        def f(k, x):
            if s.v is None:
                s.v = tj.zeros_like(x)
            s.v = s.v * 0.5 + x
            if k not in groups:
                groups[k] = []
            groups[k].append(x)
            return s.v * len(groups[k])

        return [f(k, tj.constant([1.0, float(i)])) for i, k in enumerate("abaa")] + [groups]

    same(scene)


def test_sizes_texts_and_streams():
    def scene(wrap):
        s, stream = Thing(n=0, step=0, text=""), io.StringIO()

        @wrap
        def f(x):
            s.n, s.shape = x.shape[0], x.shape
            s.step += 1
            s.text = f"step {s.step}: {tj.reduce_sum(x):.1f}"
            stream.write(f"{s.step} ")
            print(tj.reduce_sum(x).dtype.name, file=stream)

        out = []
        for k in (3, 5, 7):
            f(tj.ones((k,)))
            out.append((s.n, tuple(s.shape), s.text))
        return [*out, stream.getvalue(), type(s.n).__name__]

    same(scene)


def test_a_number_as_an_index():
    def scene(wrap):
        s = Thing(i=0, rates=[0.5, 1.0, 2.0])

        @wrap
        def f(x):
            s.i = (s.i + 1) % 3
            return x * s.rates[s.i]

        return [f(tj.constant(1.0)) for _ in range(5)]

    same(scene)


def test_calls_from_many_threads_count_all():
    s, seen = Thing(n=0), []

    @tj.function
    def f(x):
        s.n += 1
        if x > 0:
            seen.append(x)
        return x * s.n

    f(tj.constant(0.0))
    results = []
    threads = [threading.Thread(target=lambda: results.extend(float(f(tj.constant(1.0))) for _ in range(50)))
               for _ in range(4)]  # fmt: skip
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert s.n == 201
    assert len(seen) == 200
    assert sorted(results) == list(range(2, 202))


def test_functions_of_operations_that_change_objects():
    log, s = [], Thing(n=0)

    @tj.function
    def f(p, x):
        return tj.cond(p, lambda: (log.append("yes"), x)[1], lambda: x + 1.0)

    assert [float(f(tj.constant(p), tj.constant(1.0))) for p in (True, False, True)] == [1, 2, 1]
    assert log == ["yes", "yes"]

    @tj.function
    def g(p, x):
        def then():
            s.n = x
            return x

        return tj.cond(p, then, lambda: x + 1.0)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        g(tj.constant(True), tj.constant(5.0))
    g(tj.constant(False), tj.constant(6.0))
    assert float(s.n) == 5.0

    @tj.function
    def h(x):
        def double(row):
            s.n = row
            return row * 2

        return tj.map_fn(double, x)

    with pytest.warns(ConversionWarning, match=r"s\.n = row"):
        h(tj.constant([1.0, 2.0]))
    assert float(s.n) == 2.0


class Box:
    """Makes a list where the conversion does not see it."""

    def __init__(self):
        self.items = []


@pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")
def test_lists_that_branches_and_loops_change_and_that_are_read():
    def scene(wrap):
        seen = []

        @wrap
        def counted(x):
            if x > 0:
                seen.append(x)
            return x * len(seen)

        @wrap
        def own(x):
            box = Box()
            for i in range(3):
                if x > i:
                    box.items.append(x * i)
            return len(box.items) * x

        out = [counted(tj.constant(k)) for k in (1.0, -1.0, 2.0)]
        return [*out, seen, [own(tj.constant(k)) for k in (1.5, 2.5, 0.5)]]

    same(scene)


def test_default_arguments_and_generators_of_outside():
    def scene(wrap):
        def numbers():
            k = 0
            while True:
                k += 1
                yield k

        it = numbers()

        @wrap
        def f(x, seen=[]):
            seen.append(x)
            return x * next(it) + next(it) * len(seen)

        return [f(tj.constant(1.0)) for _ in range(4)]

    same(scene)


def test_one_item_under_two_indices():
    def scene(wrap):
        xs = [0, 1.0, 5]

        @wrap
        def f(x):
            xs[-1] += 1
            xs[2] *= 2
            xs[-1] = xs[2] + xs[-2]
            return x * xs[-1]

        return [f(tj.constant(1.0)) for _ in range(3)] + xs

    same(scene)
