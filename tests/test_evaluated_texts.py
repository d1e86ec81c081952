"""`eval`, `exec`, `locals()` and the like in traced functions: as in plain Python, or run as it, never otherwise."""

import math
import warnings

import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning


class M:
    k = 2.0


m, rates, kept, G = M(), {"lr": 1.0}, [], 1.0
exec = exec  # a name of the module for Python's own


def scaled(x):
    if x > 0:
        return x * m.k
    return x


# --- these compile ----------------------------------------------------------------------------------------------------
def reads_attributes_and_items(x):
    return eval("x*m.k + rates['lr']")


def calls_functions(x):
    return eval("scaled(x) + tj.sin(x)*math.pi")


def reads_a_namespace(x):
    return eval("a+x", {"a": m.k, "x": x})


def reads_globals(x):
    return eval("m.k", globals()) * x


def of_two_namespaces(x):
    return eval("k + x + G", globals(), {"k": m.k, "x": x})


def changes_a_list(x):
    exec("kept.append(x)")
    return x


def changes_its_own_list(x):
    y = [x]
    exec("y.append(x)")
    return y[0] + y[1]


def asks_python(x):
    return eval("f'{m.k}'") and eval("x*2 if m.k>1 else x")


def in_a_branch(x):
    k = 2.0  # noqa: F841 (the text reads it)
    if x > 0:
        y = eval("x*k")
    else:
        y = x
    return y


def in_a_loop(x):
    k = 2.0  # noqa: F841 (the text reads it)
    for _ in range(3):
        x = eval("x*k")
    return x


def in_a_compiled_loop(x):
    k = 2.0  # noqa: F841 (the text reads it)
    for _ in tj.range(3):
        x = eval("x*k")
    return x


def in_a_choice(x):
    k = 2.0  # noqa: F841 (the text reads it)
    return (eval("x+k") if x > 0 else eval("x-k")) * 2


def whose_variables_are_told(x):
    a = 1
    if x > 0:
        b = 2.0
        x = x + len(locals())
    else:
        b = 1.0
    return x + b * a, sorted(locals()), sorted(vars())


def whether_a_variable_is_set(x):
    if "y" in locals():
        return x
    y = 1.0
    return x + y * ("y" in locals())


def eval_of_the_users_own(x):
    def eval(z):
        if z > 0:
            return z * m.k
        return z

    return eval(x) + dir(x)


def dir(x):
    return x + 1 if x > 1 else x


# --- these run as plain Python ----------------------------------------------------------------------------------------
def sets_a_global(x):
    exec("global G; G = G + 1")
    return x


def fills_a_namespace(x):
    made = {}
    exec("y = 3.0", made)
    return x * made["y"]


def makes_a_function(x):
    return eval("lambda z: z * 2")(x)


def sets_an_attribute(x):
    exec("m.k = m.k + 1")
    return x * m.k


def runs_code(x):
    return eval(compile("x + kept.append(1) if False else x", "", "eval"))


def that_tensors_decide(x):
    return eval("x if x > 0 else -x")


def variables_that_a_tensor_decides(x):
    for _ in tj.range(2):
        if "y" in locals():
            x = x + 1.0
        if x > 0:
            y = x
    return x


FUNCTIONS = [f for f in list(globals().values()) if getattr(f, "__code__", None) and f.__module__ == __name__]
FUNCTIONS = [f for f in FUNCTIONS if f not in (scaled, dir)]
FIRST = FUNCTIONS.index(sets_a_global)


def seen(f):
    global G
    out = []
    before = m.__dict__.copy()
    try:
        for k in (1.0, 3.0, 3.0):
            m.k = k
            for x in (-2.0, 2.0):
                r = f(tj.constant(x))
                out.append([float(r[0]), r[1:]] if isinstance(r, tuple) else [float(r), len(kept), G, m.k])
        return out
    finally:
        kept.clear()
        G = 1.0
        m.__dict__.clear()
        m.__dict__.update(before)


def told(f):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        out = seen(f)
    return out, [w.category for w in said]


@pytest.mark.parametrize("f", FUNCTIONS[:FIRST], ids=lambda f: f.__name__)
def test_texts_mean_what_they_mean(f):
    assert seen(tj.function(f, strict=True)) == seen(f)


@pytest.mark.parametrize("f", FUNCTIONS[FIRST:], ids=lambda f: f.__name__)
def test_texts_that_may_do_more_run_as_plain_python(f):
    assert told(tj.function(f)) == (seen(f), [ConversionWarning])


def test_what_python_says_of_a_text():
    with pytest.raises(SyntaxError):
        tj.function(lambda x: eval("x +"))(tj.constant(1.0))
    with pytest.raises(NameError):
        tj.function(lambda x: eval("nowhere + 1"))(tj.constant(1.0))
    assert math.pi
