"""Slices, operators and iterators that change containers from outside: done again in each call to what is there."""

import collections
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning


class Things:
    def __init__(self):
        self.l, self.d, self.s, self.q = [1.0, 2.0, 3.0], {"a": 1.0}, {1, 2, 3}, collections.deque([1.0, 2.0], 4)
        self.c = collections.Counter("aab")


def a_generator(o, x):
    o.l.extend(x * i for i in range(3))


def a_generator_with_a_condition(o, x):
    o.l.extend(v for v in [x, x + 1] if True)


def a_zip(o, x):
    o.l.extend(a + b for a, b in zip([x, x], [1, 2]))


def a_map(o, x):
    o.l.extend(map(float, [1, 2]))
    o.l.append(x)


def itself(o, x):
    o.l.extend(l for l in o.l[:2])
    o.l.extend(o.l[:1])


def itself_reversed(o, x):
    o.l.extend(reversed(o.l))


def pairs(o, x):
    o.d.update((k, x) for k in "ab")


def views(o, x):
    d = {"b": x, "c": x + 1}
    o.l.extend(d.values())
    o.d.update(d.items())
    d["b"] = x + 5


def a_list_that_changes_later(o, x):
    m = [x]
    o.l.extend(m)
    m.append(x + 1)


def a_dict_that_changes_later(o, x):
    d = {"b": x}
    o.d.update(d)
    d["c"] = x


def members(o, x):
    o.s.update(i for i in range(5))


def at_both_ends(o, x):
    o.q.extend(x * i for i in range(2))
    o.q.extendleft([x])


def put_in_front(o, x):
    o.l[0:0] = [x, x + 1]


def put_between(o, x):
    o.l[1:-1] = [x]


def the_last_replaced(o, x):
    o.l.append(x)
    o.l[-1:] = [x * 3]


def every_second(o, x):
    o.l[::2] = [x for _ in o.l[::2]]


def backwards(o, x):
    o.l[::-1] = list(o.l)


def the_first_two_removed(o, x):
    o.l[:2] = []
    o.l.append(x)


def the_first_deleted(o, x):
    del o.l[:1]
    o.l.append(x)
    o.l.append(x)


def every_other_deleted(o, x):
    del o.l[::2]


def in_front_and_deleted(o, x):
    o.l[0:0] = [x, x + 1]
    del o.l[0]


def deleted_up_to_a_number(o, x):
    n = len(o.l) - 1
    del o.l[n:]
    o.l[:0] = [x]


def twice(o, x):
    o.l *= 2


def added(o, x):
    o.l += [x]
    o.q += [x]


def added_from_a_generator(o, x):
    o.l += (x * i for i in range(2))


def added_by_name(o, x):
    o.l.__iadd__([x])


def merged(o, x):
    o.d |= {"a": x, "b": 1.0}


def with_constants(o, x):
    o.d |= {"a": 5.0}
    o.s |= {3, 4}


def without_some(o, x):
    o.s -= {1}
    o.s &= {1, 2, 9}


def in_one_but_not_both(o, x):
    o.s ^= {1, 7}


def counted(o, x):
    o.c += collections.Counter("b")


FUNCTIONS = [f for f in list(globals().values()) if getattr(f, "__code__", None) and f.__code__.co_argcount == 2]


def shown(o):
    numbers = [[round(float(np.asarray(v)), 5) for v in x] for x in (o.l, o.q, o.d.values())]
    return [*numbers, list(o.d), sorted(o.s), o.q.maxlen, dict(o.c)]


def left_behind(f):
    o, out = Things(), []
    for i, v in enumerate((1.0, 2.0, -3.0, 4.0, 5.0)):
        f(o, tj.constant(v))
        out.append(shown(o))
        if i > 1:  # what happens to them between the calls
            o.l[:1], o.d["a"] = [10.0 * i, 7.0], 2.5 * i
            o.s.discard(3)
            o.s.add(1)
            o.q.append(v)
    return out


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_what_is_done_to_containers_is_done_to_what_they_hold_then(f):
    assert left_behind(tj.function(f, strict=True)) == left_behind(f)


def test_an_iterator_from_outside_runs_as_plain_python():
    def scene(wrap):
        out, source = [], iter([1.0, 2.0, 3.0])
        f = wrap(lambda x: out.extend(source) or out.append(x))
        for k in range(2):
            f(tj.constant(float(k)))
        return [float(v) for v in out]

    with pytest.warns(ConversionWarning, match="an iterator from outside"):
        got = scene(tj.function)
    assert got == scene(lambda f: f)


def test_what_follows_from_a_condition():
    def f(o, x):
        if x > 0:
            o.l.extend(x * i for i in range(2))
        else:
            o.l[0:0] = [x, x]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        assert left_behind(tj.function(f)) == left_behind(f)
