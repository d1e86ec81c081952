"""Tensors as keys of dicts: by identity in a call, never kept as what stands for them in a trace."""

import warnings
from types import SimpleNamespace

import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning

s, D, DD = SimpleNamespace(), {}, {"a": {}}


# --- these run as plain Python ----------------------------------------------------------------------------------------
def returned(k, x):
    return {k: x}


def in_a_tuple(k, x):
    return [{(k, 1): x}]


def in_an_attribute(k, x):
    s.d = {k: x}
    return x


def in_a_dict(k, x):
    D[k] = x
    return D[k]


def in_a_dict_in_a_tuple(k, x):
    D[(k, 2)] = x
    return D[(k, 2)]


def updated(k, x):
    D.update({k: x})
    return x


def in_steps(k, x):
    for _ in tj.range(2):
        D[k] = x
    return x


def in_a_branch(k, x):
    if k > 2:
        D[k] = x
    return x


def in_a_dict_in_a_dict(k, x):
    DD["a"][k] = x
    return x


def in_a_comprehension(k, x):
    return {q: v * 2 for q, v in ((k, x), (1, x))}


# --- these compile ----------------------------------------------------------------------------------------------------
def of_its_own(k, x):
    d = {k: x}
    d[k * 1] = x
    return d[k] * 2 if k in d else x, len(d)


def set_where_there_is_none(k, x):
    D.setdefault(k, []).append(x)
    return x


def in_a_set(k, x):
    s.d = {k}
    return {k}


def asked_for(k, x):
    return D.get(k, x), D.pop(k, None)


FUNCTIONS = [f for f in list(globals().values()) if getattr(f, "__code__", None) and f.__module__ == __name__]


def numbers(v):
    if isinstance(v, dict):
        return [(numbers(a), numbers(b)) for a, b in v.items()]
    if isinstance(v, (set, list, tuple)):
        return [numbers(q) for q in v]
    return v if v is None or isinstance(v, str) else float(v)


def left(f):
    D.clear()
    DD["a"].clear()
    vars(s).clear()
    out = [f(tj.constant(k), tj.constant(x)) for k, x in ((1, 2.0), (5, 3.0), (1, 4.0))]
    return numbers([out, D, DD, vars(s)])


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_as_in_plain_python(f):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert left(tj.function(f)) == left(f)
    falls = FUNCTIONS.index(f) < FUNCTIONS.index(of_its_own)
    assert [w.category for w in said] == [ConversionWarning] * falls
