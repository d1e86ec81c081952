"""What special methods that C code calls reach: attributes, classes, globals, closures, properties, many objects."""

import collections.abc
import warnings

import pytest

import tracejit as tj

calls = 0
log = []


class Slots:
    __slots__ = ("asked", "v")

    def __init__(self, v):
        self.v, self.asked = v, 0

    def __eq__(self, other):
        self.asked += 1
        return self.v == other.v


class OfClass:
    asked = 0

    def __init__(self, v):
        self.v = v

    def __eq__(self, other):
        OfClass.asked += 1
        return self.v == other.v


class OfGlobals(OfClass):
    def __eq__(self, other):
        global calls
        calls += 1
        return self.v == other.v


class ByMethod(OfClass):
    def note(self):
        log.append(self.v)

    def __eq__(self, other):
        self.note()
        return self.v == other.v


class ByProperty:
    def __init__(self, v):
        self._v, self.asked = v, 0

    @property
    def v(self):
        self.asked += 1
        return self._v

    def __eq__(self, other):
        return self.v == other.v


class KeepsHash:
    def __init__(self, v):
        self.v, self._hash = v, None

    def __hash__(self):
        if self._hash is None:
            self._hash = hash(self.v)
        return self._hash

    def __eq__(self, other):
        return self.v == other.v


class Pure:
    def __init__(self, v):
        self.v = v

    def __eq__(self, other):
        return self.v == other.v

    def __hash__(self):
        return hash(self.v)

    def __str__(self):
        return f"<{self.v}>"


class Map(collections.abc.Mapping):
    def __init__(self, **v):
        self.v = v

    def __getitem__(self, k):
        log.append(k)
        return self.v[k]

    def __len__(self):
        return len(self.v)

    def __iter__(self):
        log.append("iter")
        return iter(self.v)


def state(objects):
    return [getattr(r, "asked", None) for r in objects], OfClass.asked, calls, list(log)


def both(f, objects, plain):
    """The function `f` of objects and a tensor, traced against plain Python."""
    global calls
    found = []
    for g in (f, tj.function(f)):
        calls, OfClass.asked = 0, 0
        log.clear()
        of = objects()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            made = [repr(g(of, tj.constant(1.0))) for _ in range(4)]
        found.append((made, state(of)))
    assert found[0] == found[1]
    assert [w.category for w in told] == [tj.errors.ConversionWarning] * plain


@pytest.mark.parametrize("kind", [Slots, OfClass, OfGlobals, ByMethod, ByProperty])
def test_what_a_method_changes_is_found_where_it_stands(kind):
    both(lambda objects, x: x + objects.index(kind(2)), lambda: [kind(1), kind(2)], True)


@pytest.mark.parametrize("kind", [Slots, OfClass, OfGlobals, ByMethod, ByProperty])
def test_the_same_where_the_call_fails(kind):
    def f(objects, x):
        try:
            objects.index(kind(3))
        except ValueError:
            x = x + 1
        return x

    both(f, lambda: [kind(1), kind(2)], True)


@pytest.mark.parametrize("kind", [Slots, OfClass, OfGlobals, ByMethod, ByProperty])
def test_in_asks_converted_methods(kind):
    both(lambda objects, x: x + (kind(2) in objects), lambda: [kind(1), kind(2)], False)


def test_many_objects_are_compared():
    both(lambda objects, x: x + objects.index(Slots(999)), lambda: [Slots(i) for i in range(1000)], True)


def test_methods_that_change_nothing_compile():
    def f(objects, x):
        a, b = objects
        return x + objects.index(b) + len({a, b}) + {a: 1}[a], f"{a}" + "%s" % b + "{}".format(a)  # noqa: UP031, UP032

    both(f, lambda: [Pure(1), Pure(2)], False)


def test_a_hash_that_is_kept_compiles():
    both(lambda objects, x: x + len(set(objects)) + len({objects[0]}), lambda: [KeepsHash(1), KeepsHash(2)], False)


def test_views_of_mappings_go_through_them():
    def f(objects, x):
        (m,) = objects
        for _, v in m.items():
            x = x + v
        return x + sum([*m.values()]) + len({**m}) + len(dict(m)) + m.get("a", 0.0)

    both(f, lambda: [Map(a=1.0, b=2.0)], False)


def test_a_decorator_of_the_users_and_a_registering_base():
    registry = []

    def register(f):
        registry.append(f.__name__)
        return f

    class Base:
        def __init_subclass__(cls):
            registry.append(cls.__name__)

    def decorates(x):
        @register
        def g():
            return 1

        return x + g()

    def subclasses(x):
        class C(Base):
            pass

        return x

    for f, plain in ((decorates, False), (subclasses, True)):
        registry.clear()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            g = tj.function(f)
            for _ in range(3):
                g(tj.constant(1.0))
        assert len(registry) == 3
        assert [w.category for w in told] == [tj.errors.ConversionWarning] * plain
