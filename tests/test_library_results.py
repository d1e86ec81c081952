"""Calls of libraries' code whose results are used: what else they change is never done once for all calls."""

import argparse
import array
import asyncio
import contextlib
import contextvars
import copy
import dataclasses
import decimal
import functools
import hashlib
import importlib.util
import io
import itertools
import json
import operator
import queue
import re
import shutil
import sys
import threading
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest

import tracejit as tj
from tracejit.autograph import source
from tracejit.errors import ConversionError, ConversionWarning


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of installed packages."""
    folder = tmp_path_factory.mktemp("packages")
    shutil.copy(Path(__file__).parent / "somelibrary.py", folder)
    before, source._LIBRARIES = source._LIBRARIES, (*source._LIBRARIES, f"{folder.resolve()}/")
    yield folder
    source._LIBRARIES = before
    sys.modules.pop("somelibrary", None)


def loaded(folder):
    """The package, as when it has just been imported."""
    spec = importlib.util.spec_from_file_location("somelibrary", folder / "somelibrary.py")
    sys.modules["somelibrary"] = lib = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(lib)
    return lib


def outcome(folder, make, wrap):
    """What three calls give and leave behind, the warnings, and the traced function."""
    body, state = make(loaded(folder))
    f = wrap(lambda x: x * body())
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        out = [float(f(tj.constant(v))) for v in (1.0, 2.0, 3.0)]
    return out, str(state()), [str(w.message) for w in found if w.category is ConversionWarning], f


def none():
    return None


class Box:
    def __init__(self):
        self.n = 0

    def bump(self):
        self.n += 1
        return self.n


class Copied:
    def __init__(self):
        self.log = []

    def __deepcopy__(self, memo):
        self.log.append(1)
        return 2.0


# --- objects and modules of libraries ---------------------------------------------------------------------------------
def of_method(call):
    def make(lib):
        c = lib.Counter(3)
        return (lambda: call(c)), lambda: c.n

    return make


def class_is_changed(lib):
    return (lambda: lib.Counter.total()), lambda: lib.Counter.made


def class_counts_its_objects(lib):
    return (lambda: lib.Counter(3).bump()), lambda: lib.Counter.made


def one_object_of_a_class(lib):
    return (lambda: lib.Single().bump()), lambda: lib.Single().n


def given_by_a_function(lib):
    c = lib.Counter(3)
    get = functools.partial(dict.get, {"c": c}, "c")
    return (lambda: get().bump()), lambda: c.n


def slots(lib):
    s = lib.Slotted()
    return (lambda: s.bump()), lambda: s.n


def memory(lib):
    r = lib.Ring()
    return (lambda: r.push(2.0)), lambda: r.values


def turning(lib):
    r = lib.Ring()
    return (lambda: r.next()), lambda: r._turn


def holding_a_list(lib):
    rows = [1, 2, 3, 4, 5]
    return (lambda: lib.Holder(rows).take()), lambda: rows


def subclass_of_the_users(lib):
    class Mine(lib.Counter):
        def twice(self):
            return self.bump() + super().bump()

    m = Mine(0)
    return (lambda: m.twice()), lambda: m.n


def statement_of_a_subclass(lib):
    class Mine(lib.Counter):
        pass

    m = Mine(0)

    def body():
        m.bump()
        return 1.0

    return body, lambda: m.n


def set_by_a_property(lib):
    c = lib.Counter(1)

    def body():
        c.level = c.level + 1
        return c.level

    return body, lambda: c.n


def item_is_set(lib):
    c = lib.Counter(1)

    def body():
        c["a"] = 5
        return c.n

    return body, lambda: c.n


def asked_after_a_statement(lib):
    c = lib.Counter(1)

    def body():
        c.bump()
        return c.n

    return body, lambda: c.n


def error_is_caught(lib):
    c = lib.Counter(1)

    def body():
        try:
            n = c.fail()
        except ValueError:
            n = 2.0
        return n

    return body, lambda: c.n


def statement_whose_error_is_caught(lib):
    c = lib.Counter(1)

    def body():
        try:
            c.fail()
        except ValueError:
            return 2.0
        return 1.0

    return body, lambda: c.n


def of_module(call):
    return lambda lib: (lambda: 1.0 + call(lib), lambda: call(lib))


def in_a_loop(lib):
    c = lib.Counter(0)
    return (lambda: sum([c.bump() for _ in range(3)])), lambda: c.n


def mapped(lib):
    c = lib.Counter(1)
    return (lambda: sum(map(c.swap, [2, 3]))), lambda: c.n


def sorted_by(lib):
    c = lib.Counter(1)
    return (lambda: sorted([3, 1], key=lambda k: c.bump() * k)[0]), lambda: c.n


def default_of_a_field(lib):
    c = lib.Counter(1)

    @dataclasses.dataclass
    class D:
        n: int = dataclasses.field(default_factory=c.bump)

    return (lambda: D().n), lambda: c.n


# --- what is given to libraries ---------------------------------------------------------------------------------------
def object_is_given(lib):
    b = Box()
    return (lambda: lib.bumped(b)), lambda: b.n


def list_within_is_given(lib):
    d = {"rows": [[1, 2, 3, 4, 5]]}
    return (lambda: lib.popped(d)), lambda: d


def array_within_is_given(lib):
    xs = [np.zeros(2)]
    return (lambda: lib.applied(lambda a: lib.first_set(a[0], a[0][0] + 1.0), xs)), lambda: xs


def large_array_is_given(lib):
    a = np.zeros(200_000)
    return (lambda: lib.first_set(a, a[0] + 1.0)), lambda: a[0]


def array_is_written_to(lib):
    a = np.zeros(200_000)
    return (lambda: float(np.add(a, 1.0, out=a)[3])), lambda: a[3]


def iterator_is_given(lib):
    rows = iter([1, 2, 3, 4, 5])
    return (lambda: lib.first(rows)), lambda: list(rows)


def iterator_is_joined(lib):
    rows = iter("abc")
    return (lambda: 1.0 + len(",".join(rows))), lambda: list(rows)


def function_is_given(call):
    def make(lib):
        log = []

        def callback(*args):
            log.append(1)
            return 2.0

        return (lambda: 1.0 + call(lib, callback)), lambda: log

    return make


def method_is_given(lib):
    b = Box()
    return (lambda: lib.applied(b.bump)), lambda: b.n


def copied(lib):
    c = Copied()
    return (lambda: copy.deepcopy(c)), lambda: c.log


def generator(lib):
    rows = [1, 2, 3]
    return (lambda: 1.0 + sum(lib.drained(rows))), lambda: rows


def gone_through(lib):
    h = lib.Holder([1, 2, 3])

    def body():
        total = 1.0
        for r in h:
            total = total + r
        return total

    return body, lambda: h.rows


# --- Python's own -----------------------------------------------------------------------------------------------------
def bytes_are_popped(lib):
    b, a = bytearray(b"abcdef"), array.array("d", [1.0, 2.0, 3.0, 4.0])
    return (lambda: b.pop() + a.pop()), lambda: (b, a)


def bytes_are_set(lib):
    b = bytearray(b"abc")
    view = memoryview(b)

    def body():
        view[0] = view[0] + 1
        return view[0]

    return body, lambda: b


def appended_and_counted(lib):
    a = array.array("d", [1.0])

    def body():
        a.append(2.0)
        return len(a)

    return body, lambda: a


def arguments(lib):
    p, into = argparse.ArgumentParser(), argparse.Namespace(n=[])
    p.add_argument("--n", type=int, action="append")
    return (lambda: len(p.parse_args(["--n", "3"], into).n)), lambda: into.n


def weak_values(lib):
    kept, d = Box(), weakref.WeakValueDictionary()

    def body():
        return 1.0 if d.setdefault("a", kept) is kept else 2.0

    return body, lambda: len(d)


def queues(lib):
    q, p = asyncio.Queue(), queue.PriorityQueue()
    for k in range(5):
        q.put_nowait(k)
        p.put(k)
    return (lambda: q.get_nowait() + p.get()), lambda: q.qsize() + p.qsize()


def lines(lib):
    f = io.StringIO("a\nbb\nccc\n")
    return (lambda: len(f.readline())), lambda: f.tell()


def context_variable(lib):
    v = contextvars.ContextVar("v", default=0)

    def body():
        v.set(v.get() + 1)
        return v.get()

    return body, lambda: v.get()


def entered(make):
    def prepared(lib):
        x, n = make(lib), [0]

        def body():
            with x:
                n[0] += 1
                return 1.0

        return body, lambda: (n, getattr(x, "times", 0))

    return prepared


def managed(lib):
    c = lib.Counter(1)

    def body():
        with lib.raised(c) as n:
            return n

    return body, lambda: c.n


FALLING_BACK = [
    of_method(lambda c: c.bump()), of_method(lambda c: c.swap(5)), of_method(lambda c: c(2)),
    of_method(lambda c: c[2]), of_method(lambda c: c.ticking), of_method(lambda c: c.seen_before()),
    of_method(lambda c: type(c).bump(c)), of_method(lambda c: operator.methodcaller("bump")(c)),
    of_method(lambda c: functools.partial(c.swap, 4)()), of_method(lambda c: c.published(4)),
    of_method(lambda c: operator.call(c.bump) if hasattr(operator, "call") else c.bump()),
    class_is_changed, class_counts_its_objects, one_object_of_a_class, given_by_a_function, slots, memory, turning,
    holding_a_list, subclass_of_the_users, statement_of_a_subclass, set_by_a_property, item_is_set,
    asked_after_a_statement, error_is_caught, statement_whose_error_is_caught,
    of_module(lambda lib: lib.drawn()), of_module(lambda lib: lib.next_id()), of_module(lambda lib: lib.named("a")),
    of_module(lambda lib: lib.count()), of_module(lambda lib: lib.added(1)),
    in_a_loop, mapped, sorted_by, default_of_a_field,
    object_is_given, list_within_is_given, array_within_is_given, large_array_is_given, array_is_written_to,
    iterator_is_given, iterator_is_joined, method_is_given, copied, generator, gone_through,
    function_is_given(lambda lib, f: lib.applied(f)), function_is_given(lambda lib, f: float(np.vectorize(f)(1.0))),
    function_is_given(lambda lib, f: len(re.sub("a", lambda m: str(f()), "aa"))),
    function_is_given(lambda lib, f: len(json.dumps([Box], default=f))),
    function_is_given(lambda lib, f: float(np.frompyfunc(f, 1, 1)(1.0))),
    bytes_are_popped, bytes_are_set, appended_and_counted, arguments, weak_values, queues, lines, context_variable,
    entered(lambda lib: threading.Lock()), entered(lambda lib: threading.RLock()),
    entered(lambda lib: threading.Condition()), entered(lambda lib: threading.Semaphore(2)),
    entered(lambda lib: lib.Entered()), managed,
]  # fmt: skip


@pytest.mark.parametrize("make", FALLING_BACK)
def test_calls_that_change_something_are_made_in_each_call(make, installed):
    want, left, _, _ = outcome(installed, make, lambda f: f)
    out, now, said, f = outcome(installed, make, tj.function)
    assert (out, now) == (want, left)
    assert len(said) == 1 and f._tracing_count == 0, said


@pytest.mark.parametrize("make", [of_method(lambda c: c.bump()), memory, object_is_given, list_within_is_given])
def test_what_a_refused_trace_has_changed_is_undone(make, installed):
    body, state = make(loaded(installed))
    before = str(state())
    with pytest.raises(ConversionError, match="which is not converted, changes"):
        tj.function(lambda x: x * body(), strict=True)(tj.constant(1.0))
    assert str(state()) == before


# --- calls that leave everything as it is -----------------------------------------------------------------------------
def kept_when_asked(lib):
    c, s = lib.Counter(3), lib.Slotted()
    return (lambda: c.kept(2) + c.by_half() + s.kept() + lib.table() + lib.tripled(2) + c.doubled()), none


def made_inside(lib):
    def body():
        s = lib.made()
        s.bump()
        h = lib.Holder([1, 2, 3])
        return s.bump() + h.take()

    return body, none


def copied_inside(lib):
    c = lib.Counter(3)

    def body():
        own = copy.copy(c)
        own.bump()
        return own.bump()

    return body, lambda: c.n


def switched(lib):
    s, c = lib.Switched(), lib.Counter(1)

    def body():
        with s as n, lib.with_n(c, 5) as m, threading.Lock(), contextlib.nullcontext():
            return n + m

    return body, lambda: (s.on, c.n)


def pure(lib):
    d, p, parser = {"a": [1, 2]}, np.polynomial.Polynomial([1.0, 2.0]), argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=2)

    def body():
        n = len(json.dumps(d)) + len(copy.deepcopy(d)["a"]) + re.match("(a+)", "aab").end() + lib.applied(len, "ab")
        n = n + parser.parse_args(["--n", "3"]).n + len(hashlib.sha256(b"a").hexdigest()) + p.deriv()(1.0)
        text = io.StringIO("ab\nc")
        n = n + len(text.readline()) + text.tell() + dataclasses.replace(Point(1.0), y=2.0).y
        with decimal.localcontext() as c:
            c.prec = 3
            n = n + float(decimal.Decimal(1) / 3)
        return n + next(itertools.count(2)) + operator.add(1, 2) + lib.applied(lambda k: k + n, 1)

    return body, none


def reset_context(lib):
    v = contextvars.ContextVar("v", default=1)

    def body():
        token = v.set(3)
        n = v.get()
        v.reset(token)
        return n

    return body, lambda: v.get()


def written_and_counted(lib):
    f = io.StringIO()
    return (lambda: f.write("abc")), lambda: f.getvalue()


def moved_on(lib):
    numbers = itertools.count(1)
    return (lambda: numbers.__next__()), lambda: next(numbers)


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


@pytest.mark.parametrize(
    "make",
    [kept_when_asked, made_inside, copied_inside, switched, pure, reset_context, written_and_counted, moved_on],
)
def test_calls_that_change_nothing_are_compiled(make, installed):
    want, left, _, _ = outcome(installed, make, lambda f: f)
    out, now, said, f = outcome(installed, make, tj.function)
    np.testing.assert_allclose(out, want, rtol=1e-6)
    assert (now, said, f._tracing_count) == (left, [], 1)


@pytest.mark.filterwarnings("ignore:.*runs as plain Python")
def test_what_a_call_keeps_is_looked_at_in_the_next_calls(installed):
    seen = []
    for wrap in (lambda f: f, tj.function):
        c, out = loaded(installed).Counter(0), []
        c._values = [3.0, 1.0]
        f = wrap(lambda x, c=c: x * c.of_size(5).size + c.least())
        for k in range(4):
            out.append((float(f(tj.constant(1.0))), c.size, str(c._values)))
            c.size = [None, 5, 7, 5][k]
            c._values.append(0.5 - k)
        seen.append(out)
    assert seen[0] == seen[1]


def test_what_a_function_reads_that_a_library_calls_is_looked_at(installed):
    lib, n = loaded(installed), 2.0
    f = tj.function(lambda x: x * lib.applied(read_n) + lib.applied(lambda: n))
    globals()["N"] = 1.0
    assert float(f(tj.constant(1.0))) == 3.0
    globals()["N"], n = 2.0, 3.0
    assert float(f(tj.constant(1.0))) == 5.0


N = 1.0


def read_n():
    return N


def test_layer_of_a_library_makes_its_variable_once(installed):
    seen = []
    for wrap in (lambda f: f, tj.function):
        layer = loaded(installed).Layer(tj.Variable)
        f = wrap(lambda x, layer=layer: layer(x))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            seen.append([float(f(tj.constant(v))) for v in (1.0, 2.0, 3.0)] + [float(layer.w)])
    assert seen[0] == seen[1]


def test_callbacks_that_print_or_draw_are_called_in_each_call(installed, capsys):
    lib = loaded(installed)
    f = tj.function(lambda x: x * lib.applied(shows, 2.0))
    with pytest.warns(ConversionWarning, match=r"applied\(\), which is not converted, calls code that uses print"):
        assert [float(f(tj.constant(v))) for v in (1.0, 2.0)] == [2.0, 4.0]
    assert capsys.readouterr().out == "2.0\n2.0\n"


def shows(x):
    print(x)
    return x


def test_array_that_is_made_larger():
    a = np.zeros(2)

    @tj.function
    def f(x):
        a.resize(a.size + 1, refcheck=False)
        return x * a.size

    with pytest.warns(ConversionWarning, match="NumPy array from outside"):
        assert [float(f(tj.constant(1.0))) for _ in range(2)] == [3.0, 4.0]
