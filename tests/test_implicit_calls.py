"""What Python calls by itself in a traced function - constructors, operators, iterators - means what it means there."""

import collections
import collections.abc
import contextlib
import dataclasses
import functools
import queue
import warnings

import numpy as np
import pytest

import tracejit as tj


def init(log):
    class C:
        def __init__(self, x):
            log.append(x)
            self.v = x if x > 0 else -x

    return lambda x: C(x).v


def new(log):
    class C:
        def __new__(cls, x):
            log.append(x)
            made = super().__new__(cls)
            made.v = x if x > 0 else -x
            return made

    return lambda x: C(x).v


def post_init(log, **options):
    @dataclasses.dataclass(**options)
    class C:
        v: object
        w: object = dataclasses.field(default_factory=list)

        def __post_init__(self):
            log.append(self.v)
            object.__setattr__(self, "v", self.v if self.v > 0 else -self.v)

    return lambda x: C(x).v


def post_init_frozen(log):
    return post_init(log, frozen=True)


def post_init_slots(log):
    return post_init(log, slots=True)


def inherited_init(log):
    class B:
        def __init__(self, x):
            log.append(x)
            self.v = x if x > 0 else -x

    class C(B):
        def __init__(self, x):
            super().__init__(x)
            log.append(x * 2)

    return lambda x: C(x).v


def made_in_a_loop(log):
    class C:
        def __init__(self, v):
            self.v = v if v > 0 else -v

    def f(x):
        out = x * 0
        for v in tj.stack([x, x + 1, x + 2, x + 3, x + 4]):
            c = C(v)
            if v > 2:
                c.v = c.v * 2
            out = out + c.v
        return out

    return f


def made_in_branches(log):
    class C:
        def __init__(self, v):
            self.v = v

        def twice(self):
            return self.v * 2

    def f(x):
        c = C(x) if x > 0 else C(x - 1)
        c.v = c.v + 1
        return c.twice()

    return f


def addition(log):
    class C:
        def __add__(self, other):
            log.append(other)
            return other * 2 if other > 0 else other

        __radd__ = __mul__ = __add__

    return lambda x: (C() + x) + (x + C()) + C() * x


def in_place(log):
    class C:
        v = 1.0

        def __iadd__(self, other):
            log.append(other)
            self.v = self.v + (other if other > 0 else 0.0)
            return self

    def f(x):
        c = C()
        c += x
        return c.v

    return f


def comparisons(log):
    class C:
        def __init__(self, v):
            self.v = v

        def __lt__(self, other):
            log.append(self.v)
            return self.v < (other.v if other.v > 0 else 0.0)

        def __eq__(self, other):
            log.append(other.v)
            return self.v == other.v

        __hash__ = None

    def f(x):
        a, b = C(x), C(x + 1.0)
        out = x * 0
        if a < b:
            out = out + 1
        if a != b:
            out = out + 10
        if a > b:
            out = out + 100
        return out

    return f


def comparisons_with_none(log):
    @dataclasses.dataclass
    class D:
        x: float
        y: object = None

    class C:
        def __eq__(self, other):
            log.append(other is None)
            return NotImplemented if other is None else True

        __hash__ = None

    def f(x):
        a, c = D(1.0, D(2.0)), C()
        asked = a == None, None == a, a == a.y, c == None, None == c, c != None, 1 == c  # noqa: E711
        return x * sum([2.0**k for k, t in enumerate(asked) if t])

    return f


def signs_and_items(log):
    class C:
        def __init__(self, v):
            self.v = v

        def __neg__(self):
            return self.v if self.v > 0 else -self.v

        def __abs__(self):
            log.append(self.v)
            return self.v * 3

        def __setitem__(self, key, value):
            log.append(value)
            self.v = value if value > 0 else self.v

        def __getitem__(self, key):
            return self.v * key

        def __delitem__(self, key):
            log.append(key)

        def __contains__(self, y):
            log.append(y)
            return self.v > y

        def __bool__(self):
            log.append(0.0)
            return self.v is None

    def f(x):
        c = C(x)
        c[1] = x * 2
        c[2] += 1.0
        del c[3]
        out = (-c) + abs(c)
        if 1.0 in c:
            out = out + 1
        return out + 100 if c else out if not c else x

    return f


def contexts(log):
    class C:
        def __enter__(self):
            log.append(1)
            return self

        def __exit__(self, *_):
            log.append(2)

    def f(x):
        with C(), C() as c:
            log.append(3 if c is not None else 4)
            return x * 2

    return f


def manager(log):
    @contextlib.contextmanager
    def entered(v):
        log.append(v)
        if v > 0:
            w = v * 2
        else:
            w = v * 3
        try:
            yield w
        finally:
            log.append(w)

    def f(x):
        with entered(x) as y:
            x = y + 1
        return x * 1.0

    return f


def generator(log):
    def parts(x):
        for i in range(3):
            if i == 2:
                return
            log.append(i)
            yield x * i if x > 0 else -x

    return lambda x: sum(parts(x))


def iterator(log):
    class C:
        def __init__(self, v):
            self.v, self.i = v, 0

        def __iter__(self):
            log.append(1)
            return self

        def __next__(self):
            if self.i == 3:
                raise StopIteration
            self.i += 1
            log.append(self.i)
            return self.v if self.v > 0 else -self.v

    def f(x):
        out = x * 0
        for v in C(x):
            out = out + v
        return out + sum([v * 2 for v in C(x)]) + sum(C(x))

    return f


def by_index(log):
    class C:
        def __getitem__(self, i):
            log.append(i)
            if i > 2:
                raise IndexError
            return i * 2

        def __len__(self):
            log.append(-1)
            return 3

    def f(x):
        for v in C():
            x = x + v
        return x * len(C())

    return f


def functions_given(log):
    def key(v):
        log.append(v)
        return -v

    def double(v):
        log.append(v)
        return v * 2 if v > 0 else v

    def add(a, b):
        log.append(b)
        return a + b if a > 0 else b

    return lambda x: (
        x * sorted([1, 2, 3], key=key)[0]
        + max(1, 2, key=key)
        + sum(map(double, [x, x]))
        + functools.reduce(add, [x, x])
    )


def dispatched(log):
    @functools.singledispatch
    def g(x):
        log.append(x)
        return x if x > 0 else -x

    @g.register
    def _(x: int):
        return 7

    return lambda x: g(x) + g(3)


def descriptors(log):
    class D:
        def __get__(self, owner, kind=None):
            log.append(1)
            return owner.__dict__["w"] if owner.__dict__["w"] > 0 else -owner.__dict__["w"]

        def __set__(self, owner, value):
            log.append(2)
            owner.__dict__["w"] = value

    class C:
        d = D()

        @functools.cached_property
        def q(self):
            log.append(3)
            return self.w * 2

    def f(x):
        c = C()
        c.d = x
        return c.d + c.q + c.q

    return f


def mappings(log):
    class M:
        def __init__(self, x):
            self.of = {"lr": x, "mu": x * 2.0}

        def keys(self):
            log.append(1.0)
            return self.of.keys()

        def __getitem__(self, k):
            log.append(2.0)
            return self.of[k]

    class Entries(collections.abc.Mapping):
        def __init__(self, **entries):
            self.of = entries

        def __getitem__(self, k):
            log.append(3.0)
            return self.of[k]

        def __iter__(self):
            return iter(self.of)

        def __len__(self):
            return len(self.of)

    def f(x):
        a, b, c = dict(M(x)), dict(Entries(lr=x, mu=1.0)), dict(collections.UserDict(lr=x), mu=2.0)
        d = dict(collections.ChainMap({"lr": 3.0}, {"mu": x}), q=1.0)
        return a["lr"] + a["mu"] * b["mu"] + b["lr"] + c["lr"] * c["mu"] + d["lr"] * d["mu"]

    return f


def what_is_gone_through(log):
    class V:
        def __init__(self, *v):
            self.v = v

        def __iter__(self):
            return iter(self.v)

        def __len__(self):
            return len(self.v)

        def __add__(self, other):
            return V(*[a + b for a, b in zip(self, other)])

        def __radd__(self, other):
            return self

        def __call__(self, x):
            return x * sum(self)

    def f(x):
        a = sum([V(x, 1.0), V(2.0, x)], V(3.0, 4.0))
        b = functools.reduce(lambda p, q: p + q, [V(x, x)], V(0.5, 0.25))
        c = [*map(V(1.0, 2.0), V(x, x + 1.0))]
        d = [*enumerate(V(x, 3.0), len(V(1.0)))]
        return sum(a) + sum(b, 10.0) + sum(c) + d[1][0] * d[0][1]

    return f


def by_index_to_a_stop(log):
    class Numbers:
        def __getitem__(self, i):
            log.append(i)
            if i > 2:
                raise StopIteration
            return i

    def f(x):
        for v in Numbers():
            x = x + v
        return x * sum(Numbers()) + sum([v + 1 for v in Numbers()])

    return f


CASES = [
    init, new, post_init, post_init_frozen, post_init_slots, inherited_init, made_in_a_loop, made_in_branches, addition,
    in_place, comparisons, signs_and_items, contexts, manager, generator, iterator, by_index, functions_given,
    dispatched, descriptors, mappings, what_is_gone_through, comparisons_with_none,
    by_index_to_a_stop,
]  # fmt: skip


@pytest.mark.parametrize("make", CASES, ids=lambda f: f.__name__)
def test_as_in_python(make):
    seen = []
    for wrap in (lambda f: f, tj.function):
        log = []
        f = wrap(make(log))
        with warnings.catch_warnings():
            warnings.simplefilter("error", tj.errors.ConversionWarning)
            out = [float(f(tj.constant(v))) for v in (3.0, -3.0, 1.5)]
        seen.append((out, [float(v) for v in log]))
    assert seen[0] == seen[1]


class Shared:
    """An object from outside."""


def test_attributes_set_and_deleted_by_name():
    def run(wrap):
        o, states = Shared(), []

        @wrap
        def f(x):
            setattr(o, "n", getattr(o, "n", 0) + 1)
            if hasattr(o, "tmp"):
                delattr(o, "tmp")
            else:
                o.tmp = 1
            return x * o.n

        for _ in range(4):
            states.append((float(f(tj.constant(2.0))), dict(vars(o))))
        return states

    assert run(tj.function) == run(lambda f: f)


def test_queues_get_values():
    def run(wrap):
        q = queue.Queue()

        @wrap
        def f(x):
            q.put(x)
            if x > 1:
                q.put_nowait(x * 2)
            return x

        for v in (1.0, 2.0):
            f(tj.constant(v))
        return [float(v) for v in q.queue]

    assert run(tj.function) == run(lambda f: f) == [1.0, 2.0, 4.0]


# --- arrays -----------------------------------------------------------------------------------------------------------
def adds_to_an_item(a, x):
    a[0] += 1
    return x * a[0]


def fills(a, x):
    a.fill(float(a[0]) + 1.0)
    return x


def adds_at(a, x):
    np.add.at(a, 0, 1)
    return x


@pytest.mark.parametrize("f", [adds_to_an_item, fills, adds_at], ids=lambda f: f.__name__)
def test_arrays_from_outside_are_written_to_in_each_call(f):
    a, b = np.zeros(3), np.zeros(3)
    traced = tj.function(lambda x: f(a, x))
    with pytest.warns(tj.errors.ConversionWarning, match="is written to") as told:
        got = [float(traced(tj.constant(v))) for v in (1.0, 2.0, 3.0)]
    assert len(told) == 1 and "test_implicit_calls.py" in str(told[0].message)
    assert got == [float(f(b, tj.constant(v))) for v in (1.0, 2.0, 3.0)]
    np.testing.assert_array_equal(a, b)


def test_arrays_that_the_function_makes_are_its_own():
    def f(x):
        b = np.zeros(3)
        b[1] += 3
        b += 1
        c = b * 2
        c[0] = 1
        d = c[c > 1]
        d[0] = 7
        return x * b * c[0] * d[0]

    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.errors.ConversionWarning)
        np.testing.assert_array_equal(tj.function(f)(tj.constant(2.0)), f(2.0))


# --- strings ----------------------------------------------------------------------------------------------------------
@dataclasses.dataclass
class Point:
    v: object


class Shown:
    def __init__(self, v):
        self.v = v

    def __repr__(self):
        return f"Shown({self.v:.1f})"


TEXTS = {
    "str": lambda x: str(x),
    "percent": lambda x: "%.2f %s" % (x, "q"),  # noqa: UP031
    "format method": lambda x: "{:.2f} {a}".format(x, a=x + 1),  # noqa: UP032
    "join": lambda x: ", ".join(f"{x * i:.1f}" for i in range(3)) + "!",
    "in a list": lambda x: f"{[x, 1]} {x!r:>60}",
    "map": lambda x: " ".join(map(str, [x, 2, x])),
    "upper": lambda x: ("a" + f"{x:.1f}".rjust(10) + "b").upper(),
    "objects": lambda x: f"{Point(x)} {Shown(x)} {str(Shown(x))} {repr(Point(x))}",  # noqa: RUF010
    "format": lambda x: format(x, ".3f"),
    "the letters": lambda x: "one" if str(x).endswith("1.0, shape=(), dtype=float32)") else "another",
    "a key": lambda x: {str(x): 1},
}


@pytest.mark.parametrize("f", TEXTS.values(), ids=list(TEXTS))
@pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")
def test_strings_with_tensors_in_them(f, capsys):
    seen = []

    def g(x):
        text = f(x)
        seen.append(text)
        print(text)
        return text

    runs = []
    for h in (g, tj.function(g)):
        seen.clear()
        runs.append(([h(tj.constant(v)) for v in (1.0, 2.0)], list(seen), capsys.readouterr().out))
    assert runs[0] == runs[1]
    assert "<traced>" not in str(runs[1])


def test_messages_of_assertions():
    @tj.function
    def f(x):
        assert x < 1.5, ("too large", x)
        return x

    f(tj.constant(1.0))
    with pytest.raises(AssertionError) as caught:
        f(tj.constant(2.0))
    assert caught.value.args[0][0] == "too large" and float(caught.value.args[0][1]) == 2.0
