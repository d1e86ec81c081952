"""Traced tensors outside their trace: what is returned or stored is made for each call, the rest says its origin."""

import asyncio
import bisect
import collections
import ctypes
import functools
import heapq
import operator
import types
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ControlFlowError, ConversionWarning, LeakedTensorError, TracedValueError

ONE, TWO = tj.ones(2), tj.ones(2) * 2


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class Box:
    def __init__(self, held):
        self.held = held


class Slots:
    __slots__ = ("held",)


def numbers(x):
    return x.numpy().tolist()


# --- returned objects -----------------------------------------------------------------------------------------------
def in_object(x):
    return Box(x + 1)


def in_namespace(x):
    return types.SimpleNamespace(held=x + 1)


def in_slots(x):
    s = Slots()
    s.held = x + 1
    return s


def set_in_the_function(x):
    b = Box(None)
    b.held = x + 1
    return b


@pytest.mark.parametrize("f", [in_object, in_namespace, in_slots, set_in_the_function])
def test_objects_that_hold_tensors_are_made_for_each_call(f):
    g = tj.function(f)
    first, second = g(ONE), g(TWO)
    assert type(first) is type(f(ONE)) and first is not second
    assert numbers(first.held) == [2, 2] and numbers(second.held) == [3, 3] and g.experimental_get_tracing_count() == 1
    with tj.GradientTape() as tape:
        tape.watch(TWO)
        y = g(TWO).held * 3
    assert numbers(tape.gradient(y, TWO)) == [3, 3]


def test_objects_in_nests_and_in_one_another():
    known = Box("known")

    @tj.function
    def f(x):
        b = Box(x + 1)
        return b, [Box((b, known, x * 2))], {"b": b}, collections.deque([x], 3)

    for x in (ONE, TWO):
        b, (outer,), d, q = f(x)
        assert outer.held[0] is b is d["b"] and outer.held[1] is known
        assert numbers(b.held) == numbers(x + 1) and numbers(outer.held[2]) == numbers(x * 2)
        assert type(q) is collections.deque and q.maxlen == 3 and numbers(q[0]) == numbers(x)


def test_objects_from_outside_stay_themselves():
    b = Box(None)

    @tj.function
    def f(x):
        b.held = x + 1
        return b

    for x in (ONE, TWO):
        assert f(x) is b and numbers(b.held) == numbers(x + 1)


@tj.function
def numbers_of(x):
    for i in range(3):
        yield x * i


async def awaited(x):
    return x + 1


@pytest.mark.parametrize(
    ("f", "use"),
    [
        (lambda x: (x * i for i in range(3)), list),
        (lambda x: map(functools.partial(tj.add, x), range(3)), list),
        (lambda x: iter([x, x + 1]), list),
        (lambda x: lambda: x * 3, lambda g: [g()]),
        (lambda x: functools.partial(tj.add, x), lambda g: [g(1.0)]),
        (lambda x: ValueError(x * 2), lambda e: list(e.args)),
        (awaited, lambda c: [asyncio.run(c)]),
        (numbers_of.python_function, list),
    ],
)
def test_what_cannot_be_made_anew_runs_as_plain_python(f, use):
    g = tj.function(f)
    with pytest.warns(ConversionWarning, match=r"that holds traced tensors\n  test_leaks.py:\d+ in "):
        first = use(g(ONE))
    for x, found in ((ONE, first), (TWO, use(g(TWO)))):
        assert [numbers(y) for y in found] == [numbers(y) for y in use(f(x))]
    with pytest.raises(ControlFlowError, match="holds traced tensors"):
        tj.function(f, strict=True)(ONE)


def test_functions_and_objects_without_traced_tensors_are_returned():
    b = Box(3)
    f = tj.function(lambda x: (b, len, lambda: 7, x))
    assert f(ONE)[0] is b and f(ONE)[1] is len and f(ONE)[2]() == 7


# --- containers that are changed in other ways ----------------------------------------------------------------------
class Named(list):
    """A list with an `append` of its own."""

    def append(self, x):
        super().append(x)


class Unbound(list):
    def append(self, x):
        list.append(self, x)


class Counting(dict):
    sets = 0

    def __setitem__(self, key, x):
        self.sets += 1
        super().__setitem__(key, x)


def changed(start, f):
    """What a container holds after two calls, traced and as plain Python."""
    found = []
    for wrap in (tj.function, lambda g: g):
        c = start()
        g = wrap(lambda x: (f(c, x), x)[1])
        for x in (ONE, TWO):
            g(x)
        items = c.items() if isinstance(c, dict) else enumerate(c)
        found.append([(k, numbers(v[1] if isinstance(v, tuple) else v)) for k, v in items])
    assert found[0] == found[1] and found[0]
    return c


def through_variable(c, x):
    add = c.append
    add(x + 1)


def in_order(c, x):
    heapq.heappush(c, (len(c), x))
    bisect.insort(c, (-len(c), x + 1))


def in_a_branch(c, x):
    if tj.reduce_sum(x) > 0:
        list.append(c, x * 3)


def consumed(c, x):
    list(map(c.append, [x, x + 1]))
    functools.partial(c.extend, [x])()


@pytest.mark.parametrize(
    ("start", "f"),
    [
        (list, lambda c, x: list.append(c, x)),
        (list, lambda c, x: list.insert(c, 0, x)),
        (list, lambda c, x: list.extend(c, [x, x + 1])),
        (list, through_variable),
        (list, in_order),
        (list, in_a_branch),
        (list, consumed),
        (list, lambda c, x: operator.iadd(c, [x])),
        (dict, lambda c, x: dict.__setitem__(c, "k", x * 2)),
        (dict, lambda c, x: dict.update(c, k=x * 2)),
        (dict, lambda c, x: operator.setitem(c, "k", x * 2)),
        (dict, lambda c, x: dict.setdefault(c, "k", x)),
        (collections.OrderedDict, lambda c, x: operator.setitem(c, "k", x * 2)),
        (collections.deque, lambda c, x: collections.deque.appendleft(c, x)),
        (Named, lambda c, x: c.append(x)),
        (Unbound, lambda c, x: c.append(x + 1)),
        (Counting, lambda c, x: c.__setitem__("k", x)),
    ],
)
def test_containers_are_changed_by_each_call(start, f):
    changed(start, f)


def test_methods_of_containers_that_change_nothing_are_called_as_ever():
    c = [3, 1, 2]

    @tj.function
    def f(x):
        first = list.index(c, 1)
        return x * first + len(list.copy(c)) + dict.get({"a": 4}, "a")

    assert numbers(f(ONE)) == [8, 8]
    with pytest.raises(TypeError):
        tj.function(lambda x: (list.append(3, x), x)[1])(ONE)


def test_attributes_set_by_a_call():
    b = Box(None)
    f = tj.function(lambda x: (setattr(b, "held", x + 1), x)[1])
    for x in (ONE, TWO):
        f(x)
        assert numbers(b.held) == numbers(x + 1)


# --- what is used too late ------------------------------------------------------------------------------------------
UPDATE = ctypes.PyDLL(None).PyDict_Update
UPDATE.argtypes = [ctypes.py_object, ctypes.py_object]


class Unheard:
    """An object whose attributes can be set by a way of C's that nobody hears of."""

    def __init__(self):
        self.keep = functools.partial(UPDATE, ctypes.py_object(vars(self)))


KEPT = Unheard()


def kept(f, *args):
    """A traced tensor that an object has kept, unheard."""
    f(*args)
    return KEPT.held


@tj.function
def keeps(x, batch, n):
    KEPT.keep({"held": {"x": x, "batch": batch["images"][0], "n": n, "made": x + 1}[which]})
    return x * n


class Keeper:
    @tj.function
    @functools.lru_cache
    def keep(self, x):
        KEPT.keep({"held": x})
        return x


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x", "it is argument 'x' of keeps, defined at test_leaks.py:"),
        ("batch", "it is argument \"batch['images'][0]\" of keeps, defined at test_leaks.py:"),
        ("n", "it is argument 'n' of keeps, defined at test_leaks.py:"),
        ("made", "made at test_leaks.py:"),
    ],
)
def test_a_tensor_used_after_its_trace_says_where_it_is_from(name, said):
    global which
    which = name
    t = kept(keeps, ONE, {"images": [TWO]}, 3)
    for use in (lambda: t + 1, t.numpy, lambda: tj.function(lambda x: x + t)(ONE), lambda: float(t)):
        with pytest.raises(LeakedTensorError) as caught:
            use()
        text = str(caught.value)
        assert said in text and "is used after its trace has ended" in text
        assert "in keeps:   def keeps(x, batch, n):" in text or name == "made"


def test_asking_an_argument_for_its_value_names_it():
    @tj.function
    def f(image):
        return np.array([image, image], dtype=object)

    with pytest.raises(TracedValueError, match=r"it is argument 'image' of f, defined at test_leaks\.py:"):
        f(ONE)


def test_the_error_arises_from_nothing_else():
    t = kept(tj.function(lambda x: (KEPT.keep({"held": x + 1}), x)[1]), ONE)
    uses = (
        lambda: t + 1, lambda: 1.0 - t, lambda: t * t, lambda: ONE + t, lambda: -t, lambda: tj.exp(t), lambda: t @ t,
        lambda: t[0], lambda: tj.reduce_sum(t), lambda: t.numpy(), lambda: tj.add(t, 1.0),
    )  # fmt: skip
    for use in uses:
        with pytest.raises(LeakedTensorError) as caught:
            use()
        assert caught.value.__context__ is None and caught.value.__cause__ is None
    for use in (lambda: ONE + tj.ones(3), lambda: ONE @ tj.ones(3)):
        with pytest.raises(tj.errors.ShapeError) as caught:
            use()
        assert caught.value.__context__ is None or caught.value.__suppress_context__
