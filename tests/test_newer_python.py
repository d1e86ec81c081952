"""Syntax and semantics that differ between releases of Python: traced functions do what the plain ones do on each.

The functions stand in texts, by the release that first knows their syntax, which are made modules where they can be.
"""

import importlib.util
import re
import sys

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning

FIRST, SECOND = np.array([1.0, 2.0], np.float32), np.array([-1.0, 4.0], np.float32)

EVERY = '''
import contextlib
import functools


def comprehension_hides_a_name(x):
    k = 5
    xs = [k * x for k in range(3)]
    if x[0] > 0:
        x = xs[2] * [k for k in range(2)][-1] + k
    return x, {k: v for k, v in enumerate("ab")}, {k for k in (1,)}, k


def comprehension_in_a_loop(x):
    total = x
    for k in range(3):
        total = total + sum([x * j for j in range(k) if [k for k in (j,)] == [j]])
    while total[0] < 20:
        total = total + sum([t * t for t in (total, x)])
    return total, k


def lambdas_in_comprehensions(x):
    fs = [lambda a: a * k for k in range(3)]
    gs = [lambda a, k=k: a * k for k in range(3)]
    k = 7
    y = x
    for f in [*fs, *gs]:
        if y[0] < 100:
            y = f(x) + y
    return y, k, [f(2) for f in (lambda a: a + k, lambda a: a - k)]


def comprehension_of_a_shared_name(x):
    k = 3

    def get():
        return k

    xs = [(lambda: k + a)() for k in range(2) for a in (1, 2)]
    if x[0] > 0:
        y = x * get() + [k + j for j in range(3)][-1]
    else:
        y = x
    return y, xs, get()


def comprehension_in_a_class(x):
    k = 2

    class A:
        n = 3
        k = [k * j for j in range(n)]

        def f(self):
            return [x * j for j in self.k if j][0]

    return A().f(), A.k


def comprehension_binds(x):
    y = [last := x * k for k in range(3)]
    if x[0] > 0:
        x = x + [(total := k, total * 2) for k in range(3)][-1][1] + total
    return last, y, x


def comprehension_raises(x):
    try:
        y = [x * (1 // k) for k in (1, 0)]
    except ZeroDivisionError:
        y = [k for k in (x,)]
    return y


def generator_of_a_comprehension(x):
    def parts(a):
        yield from [a * k for k in range(2)]
        k = yield a * 3
        yield [k for k in (a, k)][0]

    out = []
    for p in parts(x):
        if p[0] > 0:
            p = p * 2
        out.append(p)
    return out


def items_assigned_in_a_comprehension(x):
    def bump(t):
        t[0] = 9.0
        return t

    return [bump(x + k) for k in range(2)]


def items_assigned_beside_a_comprehension(x):
    y = x + 1
    before = [t * 1 for t in (y,)]
    y[1] = sum([t[0] for t in (y, x)])
    return y, before


def items_assigned_in_a_generator(x):
    def parts():
        y = x * 2
        for k in range(2):
            y[k] = 5.0
            yield y + 0

    return [p for p in parts()]


def names_of_variables(x):
    y = x * 2
    d = locals()
    z = d["y"] + 1
    there = [n in locals() for n in ("y", "z", "w")], "y" in locals(), "w" not in locals()
    return z, sorted(n for n in d if not n.startswith("ag__")), there


def variables_later(x):
    y = 1
    before = locals()
    y = 2
    after = locals()
    return before["y"], after["y"], x * y


def docstrings(x):
    """Of the function.

        More.
    """

    def g(a):
        """Of a function in it.

            More.
        """
        if a[0] > 0:
            return a
        return -a

    class A:
        """Of a class.

            More.
        """

        def f(self):
            "Of a method."

    return g(x), g.__doc__, A.__doc__, A.f.__doc__


def classes_say_where_they_are_from(x):
    class A:
        class B:
            def f(self):
                self.v = x
                return self.v if x[0] > 0 else -self.v

    b = A.B()
    names = A.__qualname__, A.B.__qualname__, A.B.f.__qualname__, A.B.__module__
    return b.f(), names, getattr(A.B, "__firstlineno__", 0)


def annotations(x):
    def g(a: list, *b: int, c: str = "", **d: bytes) -> dict:
        return a

    return g(x), dict(g.__annotations__)


def texts(x):
    width, name = 6, "y"
    said = f"{name!r:>{width}}|{width=}|{3.14159:.{2}f}|{{}}|{'a' 'b'}|{(lambda a: a)(1)}|{ {'k': 1}['k'] }"
    if x[0] > 0:
        x = x * len(said)
    return x, said


def groups(x):
    @functools.cache
    def fail():
        raise ExceptionGroup("both", [ValueError(1), TypeError(2)])

    n = 0
    try:
        fail()
    except ExceptionGroup as g:
        n = len(g.exceptions)
    return x * n


def clauses(x):
    seen = []
    try:
        x = x + 1
        if len(seen) == 0:
            raise ExceptionGroup("all", [ValueError(1), TypeError(2), ValueError(3)])
    except* ValueError as g:
        seen.append([e.args for e in g.exceptions])
        if x[0] > 1:
            x = x * 2
    except* (TypeError, KeyError) as g:
        seen.append(type(g).__name__)
        x = x + 3
    else:
        seen.append("not here")
    finally:
        seen.append("last")
    return x, seen


def clauses_and_exits(x):
    for k in range(3):
        try:
            if k == 1:
                raise KeyError(k)
            if x[0] > 3:
                return x
            x = x + 1
        except* KeyError:
            x = x * 2
        else:
            x = x + 10
    return -x


def clauses_in_clauses(x):
    try:
        try:
            raise ExceptionGroup("both", [ValueError(1), TypeError(2)])
        except* ValueError:
            x = x + 1
    except* TypeError as g:
        x = x * len(g.exceptions)
    try:
        raise TypeError("alone")
    except* TypeError as g:
        x = x * 3 if x[0] > 0 else x
        n = len(g.exceptions)
    return x, n


def clauses_in_a_generator(x):
    def parts():
        try:
            yield x
            raise ValueError
        except* ValueError:
            yield x * 2

    return [p + 1 for p in parts()]


def patterns(x, p={"kind": "a", "rest": [1, 2, 3]}):
    match p:
        case {"kind": "a", "rest": [first, *others]} if len(others) == 2:
            y = x * first
        case _:
            y = x
    match [x, 2]:
        case [a, int(k)]:
            y = y + a * k
    match "b":
        case "a" | "b" as which:
            y = y + len(which)
    return y


def managers(x):
    with (contextlib.nullcontext(2.0) as a, contextlib.nullcontext(3.0) as b):
        if x[0] > 0:
            return [x * k for k in (a, b)]
    return [x, x]
'''

TYPE_PARAMETERS = """
import itertools
import math
from dataclasses import dataclass


def of_its_own[T: (int, float)](x: T) -> list[T]:
    if x[0] > 0:
        return [x * 2]
    return [x]


def its_own_is_read[T](x):
    y = x * 2 if T.__name__ == "T" else x
    if x[0] > 0:
        y = y + len([T for _ in range(3)])
    return y, T.__name__


def of_a_function_in_it(x):
    def g[T: float, *Ts, **P](a: T, b: T = 2.0, *c: *Ts, k: T = 1.0, **o: T) -> list[T]:
        while a[0] < 10:
            a = a * b + k + 4
        return [a]

    return g(x)[0], [str(t) for t in g.__type_params__], g.__annotations__["return"] == list[g.__type_params__[0]]


def in_a_branch(x):
    if x[0] > 0:
        def g[T](a: T) -> T:
            return a * 3

        y = g(x)
    else:
        y = x
    return y


def of_a_decorated_function(x):
    def twice[F](f: F) -> F:
        return lambda a: f(f(a))

    @twice
    def g[T](a: T) -> T:
        return a * 3 if a[0] > 0 else a

    return g(x)


def bounds_from_around(x):
    class Bound:
        pass

    def g[T: Bound](a: T) -> T:
        return a if a[0] > 0 else -a

    return g(x), g.__type_params__[0].__bound__ is Bound


def of_classes(x):
    class Box[T]:
        __hidden = 3

        def __init__(self, v: T) -> None:
            self.v = v

        def get[U](self, d: U) -> T | U:
            if d[0] > 0:
                return self.v * self.__hidden
            return d

    class More[T](Box[T]):
        def get(self, d):
            return super().get(d) + 1 if d[1] > 3 else super().get(d)

    made = More[float](x * 2)
    return made.get(x), type(made).__qualname__, len(Box.__type_params__), Box.get.__qualname__


class Kept[T]:
    __scale = 2.0

    def __init__(self, v: T) -> None:
        self.v = v

    @classmethod
    def of[U](cls, v: U):
        return cls(v)

    def scaled[__U](self, x: __U) -> __U:
        if x[0] > 0:
            self.v = self.v + x * self.__scale
        return self.v

    def named[U](self):
        return U.__name__, T.__name__


def methods_of_generic_classes(x):
    kept = Kept[float].of(x)
    kept.scaled(x)
    return kept.scaled(x), kept.v, kept.named()


def of_a_dataclass(x):
    @dataclass(frozen=True)
    class Pair[A, B = A]:
        a: A
        b: B

    p = Pair(x, x * 2)
    if p.a[0] > 0:
        x = p.a + p.b
    return x, Pair.__match_args__


def alias(x):
    type Pair = tuple[float, float]
    type Many[T] = list[T]
    type Chain = int | list[Chain]

    def f(p: Pair) -> Many[float]:
        return [p[0] + p[1]]

    y = f((x, x))[0] if x[0] > 0 else x
    return y, Pair.__value__, Many[int].__value__.__origin__, Chain.__name__, str(Many)


def alias_in_a_branch(x, kind=3):
    if kind == 3:
        type Number = int
    else:
        type Number = float
    if x[0] > 0:
        y = x * Number.__value__(2)
    else:
        y = x
    return y


def texts_in_texts(x):
    d, k = {"a": 1}, 3
    said = f"{d["a"]} {f"{f"{1 + 1}"}"} {'\\n'.join(["a", "b"])} {len(d)=} {
        k  # with a comment
        :>{k + 1}} {f'{x.shape[0]:{'>'}{k}}'}"
    if x[0] > 0:
        x = x * len(said)
    return x, said


def new_functions_of_libraries(x):
    out = [sum(pair) for pair in itertools.batched([x, x * 2, x * 3], 2)]
    for a, b in itertools.batched((x, x + 1, x + 2, x + 3), 2):
        if a[0] > 0:
            out.append(a * b)
        else:
            out.append(a)
    return out, math.sumprod([1, 2], [3, 4])
""".replace("[A, B = A]", "[A, B]")

DEFAULTS = """
import copy
import math
from dataclasses import dataclass


def parameters_with_defaults[T = int](x: T) -> T:
    def g[U = list[T], *Us = *tuple[int, str], **P = [int]](a: U) -> U:
        return a * 2 if a[0] > 0 else a

    return g(x), [bool(t.has_default()) for t in g.__type_params__], T.__default__


def classes_with_defaults(x):
    class Box[T = float]:
        def __init__(self, v: T):
            self.v = v

    return Box(x).v * 2, Box.__type_params__[0].__default__


def replaced(x):
    @dataclass
    class P:
        a: object
        n: int = 1

    p = P(x)
    q = copy.replace(p, a=p.a * 2)
    if q.a[0] > 0:
        q = copy.replace(q, a=q.a + p.a)
    return q.a, q.n, p.a


def what_variables_were(x):
    y = 1
    before = locals()
    y = 2
    exec("y = 3")
    return before["y"], y, x * y


def fused(x):
    return x * math.fma(2.0, 3.0, 1.0)
"""

TEXTS = {(3, 11): EVERY, (3, 12): TYPE_PARAMETERS, (3, 13): DEFAULTS}
KNOWN = {v: t for v, t in TEXTS.items() if v <= sys.version_info}
FUNCTIONS = [(v, n) for v, t in KNOWN.items() for n in re.findall(r"^def (\w+)", t, re.MULTILINE)]


def imported(folder, name, text):
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for what annotations name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("newer")
    names = {v: f"written_for_{v[0]}_{v[1]}" for v in KNOWN}
    yield {v: imported(folder, names[v], KNOWN[v]) for v in KNOWN}
    for n in names.values():
        sys.modules.pop(n, None)


def same(a, b):
    b = b.numpy() if isinstance(b, tj.Tensor) else b
    if isinstance(b, (np.ndarray, np.generic)):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-6)
    elif isinstance(b, (list, tuple)):
        assert type(a) is type(b) and len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
    elif isinstance(b, dict):
        assert list(a) == list(b)
        same(list(a.values()), list(b.values()))
    else:
        assert a == b


@pytest.mark.parametrize("version, name", FUNCTIONS, ids=[n for _, n in FUNCTIONS])
def test_traced_as_plain(modules, version, name):
    plain = getattr(modules[version], name)
    traced = tj.function(plain)
    for x in (FIRST, SECOND, FIRST):
        same(traced(tj.constant(x)), plain(x.copy()))
    assert traced.experimental_get_tracing_count() <= 2
    assert traced.__doc__ == plain.__doc__ and traced.__name__ == name


@pytest.mark.parametrize("version, name", FUNCTIONS, ids=[n for _, n in FUNCTIONS])
def test_converted_text_is_python(modules, version, name):
    compile(tj.autograph.to_code(getattr(modules[version], name)), name, "exec")


# --- errors -----------------------------------------------------------------------------------------------------------
OTHERS = """
def ends_in_the_body(x):
    try:
        k = str(len(memoryview(x.numpy()))) if x[0] > 0 else "a"
    except* (TypeError, ValueError):
        k = "b"
    return x, k


def ends_in_a_clause(x):
    try:
        raise ValueError
    except* ValueError:
        k = str(len(memoryview(x.numpy())))
    except* TypeError:
        k = 2.0
    return x, k


def fails(x):
    try:
        raise ExceptionGroup("both", [ValueError(1), TypeError(2)])
    except* ValueError:
        x = x + 1
    return x


def fails_on_values(x):
    try:
        if x[0] > 0:
            raise KeyError("positive")
    except* ValueError:
        x = x + 1
    return x


def catches_on_values(x):
    try:
        if x[0] > 0:
            raise KeyError("positive")
    except* KeyError:
        x = x + 1
    return x


def wrong(x):
    k = 3
    return [
        x * k
        + y
        for y in (x, [1, 2, 3])
    ]
"""


@pytest.fixture
def others(tmp_path):
    yield imported(tmp_path, "written_for_all", OTHERS)
    sys.modules.pop("written_for_all", None)


@pytest.mark.parametrize("name", ["ends_in_the_body", "ends_in_a_clause", "catches_on_values"])
def test_what_ends_a_trace_is_not_caught(others, name):
    plain = getattr(others, name)
    traced = tj.function(plain)
    with pytest.warns(ConversionWarning, match=f"{name} runs as plain Python"):
        y = traced(tj.constant(FIRST))
    same(y, plain(tj.constant(FIRST)))
    same(traced(tj.constant(SECOND)), plain(tj.constant(SECOND)))


def test_errors_that_no_clause_is_for(others):
    with pytest.raises(ExceptionGroup) as caught:
        tj.function(others.fails)(tj.constant(FIRST))
    assert [type(e) for e in caught.value.exceptions] == [TypeError]
    f = tj.function(others.fails_on_values)
    with pytest.raises(KeyError, match="positive"):
        f(tj.constant(FIRST))
    same(f(tj.constant(SECOND)), SECOND)
    assert f.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("traced", [False, True])
def test_errors_in_comprehensions_show_their_lines(others, traced):
    f = tj.function(others.wrong) if traced else others.wrong
    with pytest.raises(tj.errors.ShapeError) as caught:
        f(tj.constant(FIRST))
    line = OTHERS[: OTHERS.index("x * k")].count("\n") + 1
    assert re.search(rf"written_for_all\.py:{line} in (wrong|<listcomp>): +x \* k", str(caught.value))
