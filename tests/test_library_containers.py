"""Python's own containers that are written in Python, and calls of Python's own that change things from outside."""

import asyncio
import collections
import contextvars
import functools
import heapq
import warnings
import weakref

import numpy as np
import pytest
from helpers import eager_and_traced

import tracejit as tj


class Key:
    pass


KEY = Key()
CALLS = (1.5, -2.0, 3.0, 0.5)


def shown(x):
    if isinstance(x, collections.abc.Mapping):
        return sorted((str(type(k)), shown(x[k])) for k in x)
    return [shown(y) for y in x] if isinstance(x, list | collections.UserList) else float(x)


def both_ways(make, body, calls=CALLS):
    """What eager and traced calls return and leave behind, and the traced function."""
    seen = []
    for _ in eager_and_traced():
        held = make()
        f = tj.function(functools.partial(body, held))
        seen.append([(shown(f(tj.constant(x))), shown(held)) for x in calls])
    assert seen[0] == seen[1]
    return f


def keyed():
    made = weakref.WeakKeyDictionary()
    made[KEY] = tj.constant(2.0)
    return made


def set_in_branches(d, x):
    if x > 0:
        d["a"] = x
    else:
        d["b"] = x
    return d["a"]


def added_to(d, x):
    d["a"] = d["a"] + x
    return d["a"]


def updated(d, x):
    d.update({"a": x}, b=d["a"])
    d.setdefault("c", x)
    return d.get("b") + d.pop("c")


def added_to_key(d, x):
    if x > 0:
        d[KEY] = d[KEY] + x
    return d.get(KEY) + len(d)


def appended(d, x):
    if x > 0:
        d.append(x)
    return x + len(d)


@pytest.mark.parametrize(
    "make, body",
    [
        (lambda: collections.UserDict(a=tj.constant(1.0)), set_in_branches),
        (lambda: collections.UserDict(a=tj.constant(1.0)), added_to),
        (lambda: collections.UserDict(a=tj.constant(1.0)), updated),
        (lambda: collections.ChainMap({}, {"a": tj.constant(1.0)}), added_to),
        (keyed, added_to_key),
        (lambda: collections.UserList([tj.constant(1.0)]), appended),
    ],
)
def test_containers_written_in_python(make, body):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both_ways(make, body)


def test_containers_written_in_python_need_one_trace():
    assert both_ways(lambda: collections.UserDict(a=tj.constant(1.0)), added_to)._tracing_count == 1

    def added(d, x):
        d[KEY] = d[KEY] + x
        return d[KEY]

    assert both_ways(keyed, added)._tracing_count == 1


@pytest.mark.filterwarnings("ignore:.*runs as plain Python")
def test_chain_map_whose_keys_a_tensor_decides():
    both_ways(lambda: collections.ChainMap({"a": tj.constant(5.0)}, {"a": tj.constant(1.0)}), set_in_branches)


def test_counters_count_in_each_call():
    def counted(c, x):
        c["a"] += 1
        c.update(["a", "z"])
        c.update({"q": 2})
        c.subtract(["z", "r"])
        return x + c["a"] if x > 0 else x + c.total()

    def update(c, x):
        c.update(["a", "z"])
        return x

    def branch(c, x):
        if x > 0:
            c.update("a")
        return x + c["a"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both_ways(collections.Counter, counted)
        both_ways(lambda: collections.Counter(a=2), branch)
        assert both_ways(collections.Counter, update)._tracing_count == 2  # the first one finds it empty


@pytest.mark.filterwarnings("ignore:.*runs as plain Python")
def test_list_class_of_the_users_that_grows():
    class Numbered(list):
        def append(self, x):
            super().append(x)
            self.n = getattr(self, "n", 0) + 1

    class Plain(list):
        pass

    both_ways(Numbered, appended)
    both_ways(Plain, appended)


@pytest.mark.filterwarnings("ignore:.*runs as plain Python")
def test_call_that_fails_in_an_attempt_leaves_nothing_behind():
    def pushed(h, x):
        heapq.heappush(h, x)
        return heapq.heappop(h) if len(h) > 2 else x

    both_ways(list, pushed, (1.0, -6.0, 2.5, 0.0, 9.0))


@pytest.mark.filterwarnings("ignore:.*runs as plain Python")
def test_objects_of_libraries_keep_no_traced_tensor():
    queue, variable = asyncio.Queue(), contextvars.ContextVar("v")

    @tj.function
    def put(x):
        queue.put_nowait(x)
        return x

    @tj.function
    def keep(x):
        variable.set(x)
        return x

    for x in (1.0, 2.0):
        put(tj.constant(x))
        keep(tj.constant(x))
        assert variable.get() == x
    assert [queue.get_nowait() for _ in range(queue.qsize())] == [1.0, 2.0]


def test_object_of_a_library_that_the_function_makes_may_keep_tensors():
    @tj.function
    def f(x):
        q = asyncio.Queue()
        q.put_nowait(x * 2)
        return q.get_nowait() + x

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [f(tj.constant(x)) for x in (1.0, 2.0)] == [3.0, 6.0]


def test_tapes_know_what_a_branch_gives_a_list():
    kept = []

    @tj.function
    def cell(x):
        kept.append(x * x)
        if x > 0:
            kept.append(x * 3)
        return x

    for value, want in ((1.5, 3.0), (-2.0, -4.0), (0.5, 3.0)):
        x = tj.constant(value)
        cell(x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with tj.GradientTape() as tape:
                tape.watch(x)
                cell(x)
        np.testing.assert_allclose(tape.gradient(kept[-1], x), want)


def test_tapes_let_a_function_run_as_plain_python_once_they_must():
    kept = []

    @tj.function
    def cell(x):
        if x > 0:
            kept.append(x * 3)
        return x

    x = tj.constant(1.0)
    cell(x)
    assert cell._tracing_count == 1
    with pytest.warns(tj.errors.ConversionWarning, match="a tensor is given to a list in a branch"):
        with tj.GradientTape() as tape:
            tape.watch(x)
            cell(x)
    assert tape.gradient(kept[-1], x) == 3.0


def test_arguments_of_partial_functions_are_read():
    rates = {"k": 1.0}
    for f in (
        tj.function(functools.partial(lambda d, x: x * d["k"], rates)),
        tj.function(functools.partial(lambda x, d: x * d["k"], d=rates)),
    ):
        for value in (1.0, 5.0):
            rates["k"] = value
            assert f(tj.constant(2.0)) == 2 * value


def test_attempts_at_a_trace_come_to_an_end(monkeypatch):
    monkeypatch.setattr("tracejit.tracer.ATTEMPTS", 3)
    monkeypatch.setattr("tracejit.autograph.attempts.Memory.learn", lambda self, found: None)
    state = {"n": 0.0}

    @tj.function
    def f(x):
        state["n"] = state["n"] + 1.0
        return x + state["n"]

    with pytest.warns(tj.errors.ConversionWarning, match="each of 3 attempts"):
        assert f(tj.constant(1.0)) == 2.0
    assert f(tj.constant(1.0)) == 3.0
