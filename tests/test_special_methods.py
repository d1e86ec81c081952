"""Special methods of the user's classes that builtins and C code call: what they do is done in each call."""
# ruff: noqa: C401, C405, C406, C416, C420, F841, RUF015, RUF059, UP031, UP032, UP034

import bisect
import collections
import contextlib
import copy
import dataclasses
import functools
import heapq
import io
import itertools
import json
import math
import operator
import warnings

import numpy as np
import pytest
from special_classes import (
    GA,
    IC,
    L2,
    Cmp,
    D,
    Gen,
    H,
    HasD,
    Miss,
    Old,
    R,
    SetName,
    Sub,
    Un,
    WithIC,
    cnt,
    deco,
    r1,
    r2,
    r3,
    reg,
    tick,
)

import tracejit as tj

COMPILED = {
    "sumgen": lambda x: x + sum((r for r in [r1, r2])).v,
    "sumstart": lambda x: x + sum([r1], R(1)).v,
    "accum": lambda x: x + list(itertools.accumulate([r1, r2]))[-1].v,
    "filt": lambda x: x + len(list(filter(None, [r1]))),
    "maxkey": lambda x: x + max([1, 2], key=lambda i: R(i)),
    "sortkey": lambda x: x + sorted([2, 1], key=R)[0],
    "sortappend": lambda x: x + sorted([Cmp(2), Cmp(1)])[0].v,
    "rngx": lambda x: x + len(range(r1)) + len(range(0, r1, r2)),
    "slicex": lambda x: x + [1.0, 2.0, 3.0, 4.0][:r1][0],
    "slicef": lambda x: x + [1.0, 2.0, 3.0, 4.0][slice(r2, r1)][0],
    "dceq": lambda x: x + (D(r1) == D(r2)),
    "dcrep": lambda x: x + dataclasses.replace(D(r1)).r.v,
    "isin": lambda x: x + isinstance(1, WithIC) + issubclass(int, WithIC),
    "metal": lambda x: x + len(WithIC) + WithIC[2],
    "metait": lambda x: x + sum([i for i in WithIC]) + (3 in WithIC),
    "dget_": lambda x: x + HasD().d,
    "miss": lambda x: x + Miss()[3],
    "ga": lambda x: x + GA().foo + getattr(GA(), "b") + operator.attrgetter("c")(GA()),
    "gahas": lambda x: x + hasattr(GA(), "zz"),
    "compnest": lambda x: x + sum([a + b for a, b in [Gen()]]),
    "zipx": lambda x: x + sum([a * b for a, b in zip(Gen(), [1.0, 2.0])]),
    "enumx": lambda x: x + sum([i for i, _ in enumerate(Gen())]),
    "chainx": lambda x: x + sum(itertools.chain(Gen(), Gen())),
    "npx": lambda x: x + np.sum(np.array(list(Gen()))),
    "callx": lambda x: x + r1(1),
    "callmap": lambda x: x + sum(map(r1, [1, 2])),
    "truth": lambda x: x + (1 if r1 else 2) + (not r1) + bool(r1),
    "jsonx": lambda x: (json.dumps({"a": 1}, default=lambda o: 1), x),
    "tupin": lambda x: x + (R(1) in (r1, r2)),
    "mapop": lambda x: x + list(map(operator.add, [r1], [r2]))[0].v,
    "maphash": lambda x: x + len(list(map(hash, [r1]))),
    "mapstr": lambda x: x + len(list(map(str, [r1]))[0]),
    "anyx": lambda x: x + any([r1]),
    "mindefault": lambda x: x + min([r1, r2], default=R(0)).v,
    "strl": lambda x: (str([r1]) + repr({1: r1}), x),
    "joinl": lambda x: (",".join(map(str, [r1])), x),
    "rev": lambda x: x + list(reversed(r1))[0],
    "gens": lambda x: x + sum(Gen()) + len([*Gen()]) + max(Gen()) + (2.0 in Gen()),
    "dequex": lambda x: x + len(collections.deque(Gen(), 1)),
    "dirx": lambda x: x + len(dir(r1)),
}

PLAIN = {
    "bis": lambda x: x + bisect.bisect([r2, r3], r1),
    "idx": lambda x: x + [r1, r2].index(R(1)),
    "cou": lambda x: x + [r1, r2].count(R(1)),
    "listeq": lambda x: x + ([r1, r2] == [R(3), R(1)]),
    "tuplt": lambda x: x + ((r1, 1) < (r2, 2)),
    "setd": lambda x: x + len({r1, r2}),
    "dictd": lambda x: x + len({r1: 1, r2: 2}),
    "setc": lambda x: x + len({r for r in (r1, r2)}),
    "dictc": lambda x: x + len({r: 1 for r in (r1, r2)}),
    "setcall": lambda x: x + len(set([r1, r2])),
    "setgen": lambda x: x + len(set((r for r in [r1, r2]))),
    "frozen": lambda x: x + len(frozenset([r1, r2])),
    "fromkeys": lambda x: x + len(dict.fromkeys([r1, r2])),
    "dictcall": lambda x: x + len(dict([(r1, 1)])),
    "counter": lambda x: x + len(collections.Counter([r1, r2])),
    "setops": lambda x: x + len({1, 2} | {r1}) + len({1}.union([r2])),
    "collide": lambda x: x + len({H(1): 1, H(2): 2}),
    "inset": lambda x: x + (r1 in {1, 2}),
    "red": lambda x: x + functools.reduce(operator.add, [r1, r2]).v,
    "mapfloat": lambda x: x + list(map(float, [r1]))[0],
    "sorttup": lambda x: x + sorted([(r1, 1), (r2, 0)])[0][1],
    "maxtup": lambda x: x + max([(r1, 1), (r2, 0)])[1],
    "pct": lambda x: ("%r %d" % (r1, r1), x),
    "pctlist": lambda x: ("%s" % [r1], x),
    "fmtl": lambda x: ("{} {!r} {:>4}".format([r1], r1, str(r1)), x),
    "fstr": lambda x: (f"{r1} {[r1]} {r1!r} {D(r1)}", x),
    "strd": lambda x: (str(D(r1)), x),
    "flt": lambda x: x + float(r1),
    "intt": lambda x: x + int(r1),
    "cpl": lambda x: x + complex(r1).real,
    "flo": lambda x: x + math.floor(r1) + math.ceil(r1) + math.trunc(r1),
    "sqr": lambda x: x + math.sqrt(r1),
    "dvm": lambda x: x + divmod(r1, 2)[0],
    "pw": lambda x: x + pow(r1, 2) + pow(r1, 2, 3),
    "byt": lambda x: x + len(bytes(r1)),
    "hexx": lambda x: (hex(r2) + bin(r2) + chr(r2), x),
    "strmul": lambda x: ("a" * r1, x),
    "lmul": lambda x: x + len([1] * R(2)),
    "cpy": lambda x: x + copy.copy(r1).v,
    "dcp": lambda x: x + copy.deepcopy({"a": r1})["a"].v,
    "dclt": lambda x: x + (D(r1) < D(r2)),
    "dcasdict": lambda x: x + len(dataclasses.asdict(D(r1))),
    "missfmt": lambda x: ("%(a)s" % Miss(), x),
    "fmtmap": lambda x: ("{a}".format_map(Miss()), x),
    "npr": lambda x: x + float(np.asarray(r1)[0]),
    "opx": lambda x: (
        x + operator.contains(r1, 2) + operator.getitem(r1, 1) + operator.index(r1) + operator.length_hint(r1)
    ),
    "lru": lambda x: x + cached(r1),
    "chainmap": lambda x: x + len(collections.ChainMap({r1: 1}, {r2: 2})),
}


def compiles(f):
    COMPILED[f.__name__] = f
    return f


def plain(f):
    PLAIN[f.__name__] = f
    return f


@compiles
def heap(x):
    h = [R(3), R(1)]
    heapq.heapify(h)
    return x + heapq.heappop(h).v


@plain
def heap_out(x):
    h = [r1, r2, r3]
    heapq.heapify(h)
    return x + h[0].v


@plain
def rem(x):
    l = [r1, r2]
    l.remove(R(1))
    return x + len(l)


@plain
def dgetitem(x):
    d = {r1: 1}
    return x + d[r1]


@plain
def dset(x):
    d = {}
    d[r1] = 2
    return x


@plain
def dget(x):
    d = {}
    return x + d.get(r1, 1)


@plain
def dsetdef(x):
    d = {}
    return x + d.setdefault(r1, 1)


@compiles
def dpop(x):
    d = {}
    return x + d.pop(r1, 1)


@plain
def sadd(x):
    s = set()
    s.add(r1)
    return x + len(s)


@compiles
def lsortkey(x):
    l = [2, 1]
    l.sort(key=R)
    return x + l[0]


@plain
def lsorttup(x):
    l = [(r1, 1), (r2, 0)]
    l.sort()
    return x + l[0][1]


@plain
def subc(x):

    class A(Sub):
        pass

    return x


@plain
def subk(x):

    class A(Sub, k=3):
        pass

    return x


@plain
def setn(x):

    class A:
        a = SetName()

    return x


@plain
def metab(x):

    class A(metaclass=IC):
        pass

    return x


@plain
def typ3(x):
    type("A", (Sub,), {})
    return x


@compiles
def cgi(x):
    Sub[int]
    return x


@plain
def bodycall(x):

    class A:
        tick()

    return x


@compiles
def decofn(x):

    @deco
    def g():
        return 1

    return x + g()


@compiles
def decocls(x):

    @deco
    class A:
        pass

    return x


@compiles
def decometh(x):

    class A:
        @deco
        def f(self):
            return 1

    return x + A().f()


@compiles
def dset_(x):
    HasD().d = 3
    return x


@compiles
def ddel(x):
    del HasD().d
    return x


@compiles
def l2(x):
    l = L2()
    l.append(1)
    return x


@compiles
def gen(x):
    a, b = Gen()
    return x + a + b


@compiles
def old(x):
    a, b, c = Old()
    return x + len(list(Old())) + (2 in Old()) + max(Old())


@compiles
def starred(x):
    a, *b = Gen()
    return x + a + len(b)


@compiles
def nested(x):
    (a, b), c = (Gen(), 1)
    return x + a


@compiles
def fornest(x):
    for a, b in [Gen()]:
        x = x + a
    return x


@compiles
def extendx(x):
    l = []
    l.extend(Gen())
    l += Gen()
    l[0:0] = Gen()
    return x + len(l)


@compiles
def una(x):
    u = Un()
    return x + -u + +u + ~u + abs(u) + round(u) + round(u, 2)


@compiles
def iadd(x):
    r = r1
    r += 1
    return x


@compiles
def setitem(x):
    r1[2] = 3
    del r1[2]
    r1[1:2] = 4
    return x + r1[1:2] + r1[1, 2:3]


@compiles
def withx(x):
    with r1 as z:
        return x


@compiles
def ex(x):
    with contextlib.ExitStack() as st:
        st.enter_context(r1)
    return x


@compiles
def assertx(x):
    assert r1
    return x


@compiles
def whilex(x):
    while not r1:
        pass
    return x


@compiles
def matchx(x):
    match r1:
        case R(v=3):
            return x + 1
    return x


@functools.lru_cache
def cached(r):
    return 1


@plain
def printx(x):
    print(r1, [r1], D(r1), end="")
    return x


@plain
def raisex(x):
    try:
        raise ValueError(r1)
    except ValueError as e:
        return (str(e), x)


@compiles
def yfrom(x):

    def g():
        yield from Gen()

    return x + sum(list(g()))


def outcome(f, n=3):
    """What calls give, and the state after them."""
    cnt["n"] = 0
    reg.clear()
    cached.cache_clear()
    for r in (r1, r2, r3):
        r.asked = 0
    with contextlib.redirect_stdout(io.StringIO()) as out:
        given = [f(tj.constant(v)) for v in (1.0, 1.0, 1.0, 1.0)[:n]]
    shown = [[str(z) if isinstance(z, str) else float(z) for z in (y if isinstance(y, tuple) else (y,))] for y in given]
    return shown, cnt["n"], list(reg), [r.asked for r in (r1, r2, r3)], out.getvalue()


@pytest.mark.parametrize("name", [*COMPILED, *PLAIN])
def test_special_methods_act_in_each_call(name):
    f = COMPILED.get(name) or PLAIN[name]
    want = outcome(f, 4)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert outcome(tj.function(f), 4) == want
    assert [w.category for w in told] == [tj.errors.ConversionWarning] * (name in PLAIN)
