"""Places that later attempts at a branch or loop come to, attributes that classes have, names that closures set."""

import functools
import warnings

import pytest

import tracejit as tj


class Box:
    late = 0.0
    none = None

    def __init__(self):
        self.x = tj.constant(2.0)

    @functools.cached_property
    def thrice(self):
        return self.x * 3


class Inner(Box):
    pass


def number(x):
    return None if x is None else float(x)


def same(f, *draws, strict=True):
    """A function of a new Box and tensors gives and does the same traced, call after call."""
    boxes, traced = (Box(), Box()), tj.function(f, strict=strict)
    for draw in draws:
        args = [tj.constant(v) for v in (draw if isinstance(draw, tuple) else (draw,))]
        want, got = f(boxes[0], *args), traced(boxes[1], *args)
        assert [number(v) for v in got] == [number(v) for v in want]
        kept = [{k: number(v) for k, v in vars(b).items()} for b in boxes]
        assert kept[1] == kept[0]


# --- places -----------------------------------------------------------------------------------------------------------
def test_a_number_that_is_known_in_the_first_step_only_leads_to_a_place():
    def counted(box, n):
        k = i = 0
        while i < n:
            if k > 2:
                box.late = box.x + k
            k = k + 1
            i = i + 1
        return k, box.late

    def by_rows(box, rows):
        k = 0
        for x in rows:
            if k > 2:
                box.late = box.late + x
            k = k + 1
        return k, box.late

    same(counted, 2, 6, 4)
    same(by_rows, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [0.5] * 7)


def test_a_list_that_becomes_rows_leads_to_a_place():
    def f(box, x):
        items = [x + 1.0]
        seen, y, i = {"p": 1.0}, x, 0
        while i < 2 and y >= 1.0:
            i += 1
            if (items[-1] if len(items) > 0 else 0.0) <= y:
                if i > y - seen["p"]:
                    seen["p"] = -0.5
                    box.late = x
            elif len(items) > 0:
                y = items.pop()
        return y, box.late, seen["p"]

    same(f, 0.5, 1.0, 1.5, 3.0)


# --- attributes of classes --------------------------------------------------------------------------------------------
def set_in_a_branch(box, x):
    if x > 0:
        box.late = box.late + x
    return box.late, hasattr(box, "late"), getattr(box, "late", 5.0)


def added_to_in_a_branch(box, x):
    if x > 0:
        box.late += 1
    return (box.late,)


def set_in_a_loop(box, x):
    for i in tj.range(3):
        if x > i:
            box.late = box.late + 1.0
    while x < 3.0:
        x = x + 1.0
        box.late = box.late + x
    return (box.late,)


def none_in_the_class(box, x):
    if x > 0:
        box.none = x
    if box.none is None:
        return (x * 10,)
    return (box.none,)


def read_before_and_after(box, x):
    y = x
    if x > 0:
        y = x * box.thrice
    return y + box.thrice, y - box.thrice


@pytest.mark.parametrize(
    "f", [set_in_a_branch, added_to_in_a_branch, set_in_a_loop, none_in_the_class, read_before_and_after]
)
def test_an_attribute_that_the_class_has(f):
    for signs in ((-1.0, 1.0, -2.0), (1.0, -1.0, 2.0)):
        same(f, *signs)


def test_attributes_of_classes_and_of_those_they_inherit_from():
    def made():
        class Base:
            n = 0.0

        class Sub(Base):
            pass

        return Base, Sub, Base(), Sub()

    def f(base, sub, b, s, x):
        if x > 0:
            sub.n = x
        else:
            base.n = x
        return b.n, s.n

    def g(base, sub, b, s, x):
        if x > 0:
            b.n = x
        else:
            base.n = x
        return b.n, s.n

    for h in (f, g):
        traced, one, two = tj.function(h, strict=True), made(), made()
        for x in (-1.0, 1.0, -3.0, 2.0):
            x = tj.constant(x)
            assert list(map(number, traced(*two, x))) == list(map(number, h(*one, x)))
            assert [["n" in vars(k)] for k in two] == [["n" in vars(k)] for k in one]


def test_classes_and_metaclasses_of_ones_own():
    class Meta(type):
        def __setattr__(cls, name, value):
            type.__setattr__(cls, name, value)

    class Counted(metaclass=Meta):
        n = 0.0

    class Watched:
        def __init__(self):
            self.log, self.v = [], 1.0

        def __delattr__(self, name):
            self.log.append(name)
            object.__delattr__(self, name)

    @tj.function
    def counts(x):
        if x > 0:
            Counted.n = Counted.n + x
        return Counted.n

    assert [number(counts(tj.constant(x))) for x in (-1.0, 1.0, 2.0)] == [0.0, 1.0, 3.0]

    @tj.function
    def made_in_the_function(x):
        class Local:
            n = 1.0

        Local.n = Local.n + x
        return Local.n

    assert number(made_in_the_function(tj.constant(2.0))) == 3.0
    watched = Watched()

    @tj.function
    def deletes(x):
        if x > 0:
            del watched.v
        return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.errors.ConversionWarning)
        deletes(tj.constant(-1.0))
        assert (watched.log, watched.v) == ([], 1.0)
        deletes(tj.constant(1.0))
    assert watched.log == ["v"]
    assert not hasattr(watched, "v")


def test_a_variable_made_in_a_branch_stays_one():
    slots = {}

    @tj.function
    def f(x):
        if x > 0:
            if "m" not in slots:
                slots["m"] = tj.Variable(0.0)
            slots["m"].assign_add(x)
        return x

    with pytest.warns(tj.errors.ConversionWarning, match="a Variable made in a branch"):
        f(tj.constant(1.0))
    f(tj.constant(2.0))
    assert isinstance(slots["m"], tj.Variable)
    assert float(slots["m"]) == 3.0


# --- containers -------------------------------------------------------------------------------------------------------
def test_a_list_changed_in_one_branch_and_replaced_in_the_other():
    class Log:
        items = None

    log = Log()
    log.items = []

    @tj.function
    def f(x):
        if x > 0:
            log.items.append(x)
        else:
            log.items = [x]
        return len(log.items)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.errors.ConversionWarning)
        assert [int(f(tj.constant(x))) for x in (1.0, 2.0, -1.0, 3.0)] == [1, 2, 1, 2]
    assert list(map(number, log.items)) == [-1.0, 3.0]


def test_an_argument_that_is_reached_otherwise_too():
    everything = [tj.constant(1.0)]

    @tj.function
    def f(items, x):
        if x > 0:
            everything.append(x)
        items.append(x + 1)
        return len(items), len(everything)

    with pytest.warns(tj.errors.ConversionWarning, match="is an argument too, and is changed"):
        assert tuple(map(int, f(everything, tj.constant(1.0)))) == (3, 3)


# --- names of functions within ----------------------------------------------------------------------------------------
def test_names_that_inner_functions_assign():
    def f(box, x):
        y, k = x * 0.5, 0
        if not x > 0.2:
            if k > x:

                def inner(p):
                    nonlocal y, k
                    if p > 0.3:
                        y = y * 0.7 + p
                        k = k + 1
                    y = y * 0.8

                inner(x)
                inner(y)
            elif k < 2:
                y = x * 3.0
            y = y + k
        if x > 0.5:

            def again(p):
                nonlocal k
                k = k + 2
                return p * k

            y = again(y)
        return x, y, k

    same(f, 0.1, -0.4, 0.9, 0.3)


def test_objects_that_nested_branches_make():
    class Item:
        def __init__(self, v):
            self.v = v

    class Held:
        item = None

    def f(held, x, y):
        if x < 1.0:
            held.item = Item(x * 2.0)
            if y > -2.0:
                held.item = Item(y)
        return x + y

    holders = Held(), Held()
    traced = tj.function(f)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.errors.ConversionWarning)
        for x, y in [(0.5, -1.0), (0.25, -3.0), (2.0, 1.0)]:
            x, y = tj.constant(x), tj.constant(y)
            assert number(traced(holders[1], x, y)) == number(f(holders[0], x, y))
            assert number(holders[1].item.v) == number(holders[0].item.v)


# --- that only the node's step writes to, since the step traced for nothing knows that it does not --------------------
KEPT, FOUND, BOX = {"k": 0}, [], Box()


def own_list(x):
    a, b = [], [1]
    for i, v in enumerate(x):
        if i > 3:
            a = a[:]
            b.append(i)
        a.append(v)
    return tj.stack(a), tj.stack(b)


def own_list_and_number(x):
    a, b, s = [], [1], 0
    for i, v in enumerate(x):
        if i > 3:
            s = s + v
            a = a[:]
            b.append(7)
        else:
            if len(b) < 1:
                b.append(i)
        a.append(v + s)
    return tj.stack(a), tj.stack(b)


def own_dict(x):
    a, b = [], {"k": 0}
    for i, v in enumerate(x):
        if i > 3:
            a = a[:]
            b["k"] = b["k"] + i
        a.append(v)
    return tj.stack(a), b["k"]


def dict_outside(x):
    a = []
    for i, v in enumerate(x):
        if i > 3:
            a = a[:]
            KEPT["k"] = KEPT["k"] + i
        a.append(v)
    return tj.stack(a)


def list_outside(x):
    a = []
    for i, v in enumerate(x):
        if i > 3:
            a = a[:]
            FOUND.append(i)
        a.append(v)
    return tj.stack(a)


def object_outside(x):
    a = []
    for i, v in enumerate(x):
        if i > 3:
            a = a[:]
            BOX.late += i
        a.append(v)
    return tj.stack(a)


ONLY_LATER = [own_list, own_list_and_number, own_dict, dict_outside, list_outside, object_outside]


@pytest.mark.parametrize("f", ONLY_LATER, ids=lambda f: f.__name__)
@pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")
def test_what_only_later_steps_write_is_kept(f):
    def outcome(g):
        KEPT["k"], FOUND[:], BOX.late = 0, [], 0.0
        given = g(x)
        every = [*(given if isinstance(given, tuple) else (given,)), KEPT["k"], BOX.late]
        return [y.numpy().tolist() if hasattr(y, "numpy") else y for y in every], [int(n) for n in FOUND]

    x, traced = tj.constant([1, 3, 0, 2, 3, 0, 4, 1]), tj.function(f)
    for _ in range(2):
        assert outcome(traced) == outcome(f)
