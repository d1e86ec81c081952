"""What C code and targets call of the user's classes, beside the code that names it, is done in each call."""
# ruff: noqa: E731, E742, F841, RET504, RUF059, UP031, UP032

import collections
import copy
import functools
import itertools
import warnings

import pytest

import tracejit as tj

cnt = {"n": 0}
log = []
EFFECT_PLAIN = {"percent", "fmt", "deep", "update", "classbody"}
STATE_PLAIN = {"unpack", "star", "args", "percent", "fmt", "deep", "dq", "mul"}
TARGET_PLAIN = {"comp"}
V = tj.Variable(0.0)


class Batches:  # a loader that counts what it has served
    def __init__(s):
        s.i = 0

    def __iter__(s):
        return s

    def __next__(s):
        s.i += 1
        if s.i > 3:
            raise StopIteration
        cnt["n"] += 1
        return s.i


class Rec:  # a record that counts comparisons and additions
    def __init__(s, v):
        s.v = v

    def __lt__(s, o):
        cnt["n"] += 1
        return s.v < o.v

    def __eq__(s, o):
        cnt["n"] += 1
        return s.v == o.v

    def __add__(s, o):
        cnt["n"] += 1
        return Rec(s.v + o.v)

    def __radd__(s, o):
        cnt["n"] += 1
        return s

    def __str__(s):
        cnt["n"] += 1
        return "r"

    def __round__(s, n=None):
        cnt["n"] += 1
        return 1

    def __index__(s):
        cnt["n"] += 1
        return 1

    def __getitem__(s, k):
        cnt["n"] += 1
        return 1

    def __deepcopy__(s, m):
        cnt["n"] += 1
        return Rec(s.v)

    @property
    def p(s):
        return 1

    @p.deleter
    def p(s):
        cnt["n"] += 1


class Single:
    _one = None
    made = 0

    def __new__(cls, *a):
        cnt["n"] += 1
        if cls._one is None:
            cls._one = super().__new__(cls)
        return cls._one

    def __init__(s, v):
        s.v = v


class Meta(type):
    def __call__(cls, *a):
        return super().__call__(*a)


class Tracked(metaclass=Meta):
    def __init__(s, v):
        cnt["n"] += 1
        s.v = v


class TrackedNew(metaclass=Meta):
    def __new__(cls, v):
        cnt["n"] += 1
        return super().__new__(cls)


class Mapping:
    def keys(s):
        cnt["n"] += 1
        return ["a", "b"]

    def __getitem__(s, k):
        cnt["n"] += 1
        return 1


class Proxy:
    def __init__(s, o):
        s._o = o

    def __getattr__(s, n):
        cnt["n"] += 1
        return getattr(s._o, n)

    def __enter__(s):
        return s

    def __exit__(s, *a):
        pass


def effect_unpack(x):
    a, b, c = Batches()
    return x + a


def effect_star(x):
    return x + len([*Batches()])


def effect_argstar(x):
    return (lambda a, b, c: x + a)(*Batches())


def effect_contains(x):
    return x + (2 in Batches())


def effect_counter(x):
    return x + len(collections.Counter(Batches()))


def effect_deque_(x):
    return x + len(collections.deque(Batches(), maxlen=2))


def effect_nextdefault(x):
    return x + next(Batches(), 0)


def effect_aslist(x):
    return x + len(list(Batches()))  # right


def effect_sort(x):
    return x + sorted([Rec(2), Rec(1), Rec(3)])[0].v


def effect_sortinplace(x):
    l = [Rec(2), Rec(1)]
    l.sort()
    return x + l[0].v


def effect_least(x):
    return x + min([Rec(2), Rec(1)]).v


def effect_total(x):
    return x + sum([Rec(1), Rec(2)], Rec(0)).v


def effect_inlist(x):
    return x + (Rec(1) in [Rec(2), Rec(1)])


def effect_percent(x):
    print("%s" % Rec(1))
    return x


def effect_fmt(x):
    print("{}".format(Rec(1)))
    return x


def effect_slicing(x):
    return x + Rec(1)[1:2]


def effect_deep(x):
    return x + copy.deepcopy([Rec(1)])[0].v


def effect_delprop(x):
    del Rec(1).p
    return x


def effect_new(x):
    return x + Single(1).v


def effect_metainit(x):
    return x + Tracked(1).v


def effect_metanew(x):
    TrackedNew(1)
    return x


def effect_kwargs(x):
    return x + len((lambda **k: k)(**Mapping()))


def effect_display(x):
    return x + len({**Mapping()})


def effect_update(x):
    d = {}
    d.update(Mapping())
    return x + len(d)


def effect_classbody(x):
    class L:
        cnt["n"] += 1

    return x


def effect_proxy(x):
    with Proxy(Rec(1)) as p:
        return x


class Ids(Batches):  # hands out ids for ever
    def __next__(s):
        s.i += 1
        return float(s.i)


class Two(Ids):
    def __next__(s):
        s.i += 1
        if s.i % 3 == 0:
            raise StopIteration
        return float(s.i)


class Elo:
    def __init__(s, v):
        s.v, s.asked = v, 0

    def __lt__(s, o):
        s.asked += 1
        return (s.v + s.asked) < o.v

    def __add__(s, o):
        s.asked += 1
        return Elo(s.v + o.v + s.asked)

    def __radd__(s, o):
        s.asked += 1
        return s

    def __str__(s):
        s.asked += 1
        return f"<{s.asked}>"

    def __format__(s, f):
        s.asked += 1
        return f"<{s.asked}>"

    def __index__(s):
        s.asked += 1
        return s.asked

    def __eq__(s, o):
        s.asked += 1
        return s.asked % 2 == 0

    def __getitem__(s, k):
        s.asked += 1
        return float(s.asked)

    def __round__(s, n=None):
        s.asked += 1
        return float(s.asked)

    def __deepcopy__(s, m):
        s.asked += 1
        return Elo(s.asked)

    def __hash__(s):
        return 1

    def keys(s):
        s.asked += 1
        return ["k"]


def state_nextdefault(o, x):
    return next(o[0], 0.0) * x


def state_unpack(o, x):
    a, b = o[1]
    return a * x + b


def state_star(o, x):
    return sum([*o[1]]) * x


def state_args(o, x):
    return (lambda *a: sum(a))(*o[1]) * x


def state_isl(o, x):
    return sum(itertools.islice(o[0], 2)) * x


def state_isll(o, x):
    return sum(list(itertools.islice(o[0], 2))) * x


def state_zipped(o, x):
    return sum(a * b for a, b in zip([1.0, 2.0], o[0])) * x


def state_contains(o, x):
    return x if 4.0 in itertools.islice(o[0], 2) else -x


def state_order(o, x):
    return sorted(o[2])[0].v * x


def state_least(o, x):
    return min(o[2][0], o[2][1]).v * x


def state_total(o, x):
    return sum(o[2][1:], o[2][0]).v * x


def state_percent(o, x):
    return "%s" % o[2][0], x


def state_fmt(o, x):
    return "{}".format(o[2][0]), x


def state_rng(o, x):
    return len(range(o[2][0])) * x


def state_slc(o, x):
    return o[2][0][1:2] * x


def state_rnd(o, x):
    return round(o[2][0]) * x


def state_inl(o, x):
    return x if 3 in [o[2][0]] else -x


def state_deep(o, x):
    return copy.deepcopy([o[2][0]])[0].v * x


def state_kws(o, x):
    return (lambda **k: k["k"])(**o[2][0]) * x


def state_dq(o, x):
    return collections.deque(o[1], maxlen=1)[0] * x


def state_repeat(o, x):
    return [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0][o[2][0]] * x


def state_mul(o, x):
    return "ab" * o[2][0], x


class O:
    def __init__(self):
        self._v = 0

    @property
    def v(self):
        return self._v

    @v.setter
    def v(self, q):
        log.append("set")
        V.assign_add(1.0)
        cnt["n"] += 1
        self._v = q

    def __setitem__(self, k, q):
        log.append(("seti", k))
        V.assign_add(10.0)
        cnt["n"] += 10

    def __delitem__(self, k):
        log.append(("del", k))
        V.assign_add(100.0)

    def __enter__(self):
        return 5

    def __exit__(self, *a):
        pass


o = O()


def target_forattr(x):
    for o.v in range(3):
        x = x + 1
    return x


def target_foritem(x):
    for o["k"] in range(3):
        x = x + 1
    return x


def target_fortuple(x):
    for i, o.v in enumerate((5, 6)):
        x = x + o.v
    return x


def target_withattr(x):
    with o as o.v:
        x = x + 1
    return x


def target_withitem(x):
    with o as o["z"]:
        x = x + 1
    return x


def target_delitems(x):
    del o["a"], o["b"]
    return x


def target_star(x):
    a, *o.v = (1, 2, x)
    return a, o.v


def target_tup(x):
    a, o.v = (1, x)
    (b, (o["z"], c)), d = (1, (2, 3)), 4
    return a, b, c, d


def target_chain(x):
    a = o.v = o["q"] = x
    return a


def target_fortensor(x):
    for o.v in tj.range(3):
        x = x + 1
    return x


def target_comp(x):
    return [o.v for o.v in (1, 2)], x


def named(start):
    return {n.removeprefix(start): f for n, f in globals().items() if n.startswith(start)}


def run(f, *args, n=4):
    """What calls give, and how the functions are told to run."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = [f(*args, tj.constant(1.0)) for _ in range(n)]
    return repr(made), [w.category for w in told]


def told(falls):
    return [tj.errors.ConversionWarning] * falls


@pytest.mark.parametrize("name", named("effect_"))
def test_effects_of_what_c_code_calls(name):
    f = named("effect_")[name]
    found = []
    for g in (f, tj.function(f)):
        cnt["n"], Single._one = 0, None
        found.append((*run(g), cnt["n"]))
    assert found[1] == (found[0][0], told(name in EFFECT_PLAIN), found[0][2])


@pytest.mark.parametrize("where", ["closure", "argument"])
@pytest.mark.parametrize("name", named("state_"))
def test_what_c_code_calls_sees_the_state_of_each_call(name, where):
    f = named("state_")[name]
    found = []
    for traced in (False, True):
        objects = [Ids(), Two(), [Elo(3.0), Elo(2.0), Elo(1.0)]]
        if where == "closure":
            g = lambda x: f(objects, x)
            g = tj.function(g) if traced else g
        else:
            g = functools.partial(tj.function(f) if traced else f, objects)
        try:
            made = run(g)
        except (RuntimeError, ValueError, StopIteration) as e:
            made = type(e), told(name in STATE_PLAIN)
        found.append((*made, objects[0].i, objects[1].i, [e.asked for e in objects[2]]))
    assert found[1] == (found[0][0], told(name in STATE_PLAIN), *found[0][2:])


@pytest.mark.parametrize("name", named("target_"))
def test_setters_that_targets_call(name):
    global o
    f = named("target_")[name]
    found = []
    for g in (f, tj.function(f)):
        log.clear()
        V.assign(0.0)
        cnt["n"], o = 0, O()
        found.append((*run(g), list(log), float(V), cnt["n"], repr(o._v)))
    assert found[1] == (found[0][0], told(name in TARGET_PLAIN), *found[0][2:])
