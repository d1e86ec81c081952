"""Objects that are given another class between calls, and in them: special methods are looked for in the class."""

import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning


class One:
    def __call__(self, x):
        return x + 1.0

    def __len__(self):
        return 1

    def __getitem__(self, i):
        return i + 1.0

    def __iter__(self):
        return iter([1.0, 2.0])

    def __contains__(self, v):
        return True

    def __add__(self, y):
        return y + 1.0

    def __radd__(self, y):
        return y + 2.0

    def __iadd__(self, y):
        return y + 3.0

    def __neg__(self):
        return 1.0

    def __abs__(self):
        return 1.0

    def __float__(self):
        return 1.0

    def __index__(self):
        return 1

    def __bool__(self):
        return True

    def __str__(self):
        return "one"

    def __eq__(self, other):
        return True

    def __lt__(self, other):
        return True

    def __hash__(self):
        return 1

    def __enter__(self):
        return 1.0

    def __exit__(self, *error):
        return None

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda x: x + 1.0

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)


class Two:
    def __call__(self, x):
        return x * 100.0

    def __len__(self):
        return 20

    def __getitem__(self, i):
        return i + 20.0

    def __iter__(self):
        return iter([30.0, 40.0])

    def __contains__(self, v):
        return False

    def __add__(self, y):
        return y + 10.0

    def __radd__(self, y):
        return y + 20.0

    def __iadd__(self, y):
        return y + 30.0

    def __neg__(self):
        return 10.0

    def __abs__(self):
        return 10.0

    def __float__(self):
        return 10.0

    def __index__(self):
        return 2

    def __bool__(self):
        return False

    def __str__(self):
        return "number two"

    def __eq__(self, other):
        return False

    def __lt__(self, other):
        return False

    def __hash__(self):
        return 2

    def __enter__(self):
        return 10.0

    def __exit__(self, *error):
        return None

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda x: x + 10.0

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value * 2.0)


M = One()
LAYERS = [One(), One()]


class Holder:
    part = One()


def loop(x):
    for v in M:
        x = x * v
    return x


def with_(x):
    with M as y:
        return x + y


def set_(x):
    M.z = 3.0
    return x + M.__dict__["z"]


def in_place(x):
    n = M
    n += 1.0
    return x + n


def layers(x):
    for layer in LAYERS:
        x = layer(x)
    return x


FUNCTIONS = {
    "call": lambda x: M(x), "len": lambda x: x + len(M), "item": lambda x: x + M[1], "loop": loop, "with": with_,
    "in": lambda x: x + (3 in M), "add": lambda x: x + (M + 1.0), "radd": lambda x: x + (1.0 + M), "set": set_,
    "iadd": in_place, "neg": lambda x: x + (-M), "abs": lambda x: x + abs(M), "float": lambda x: x + float(M),
    "bool": lambda x: x + bool(M), "if": lambda x: x + (1 if M else 2), "not": lambda x: x + (not M),
    "and": lambda x: x + ((M and 5) or 7), "str": lambda x: x + len(str(M)), "text": lambda x: x + len(f"{M}"),
    "eq": lambda x: x + (M == 3), "ne": lambda x: x + (M != 3), "lt": lambda x: x + (M < 3),
    "gt": lambda x: x + (3 > M), "getattr": lambda x: M.go(x), "list": lambda x: x + list(M)[1],
    "index": lambda x: x + [1.0, 2.0, 3.0][M], "layers": layers, "held": lambda x: Holder.part(x),
    "hash": lambda x: x + hash(M), "sum": lambda x: x + sum(M), "range": lambda x: x + len(range(M)),
}  # fmt: skip


def swap(*objects, to):
    for o in objects:
        object.__setattr__(o, "__class__", to)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_class_that_is_swapped_between_calls(name):
    f, x = FUNCTIONS[name], tj.constant(2.0)
    swap(M, Holder.part, *LAYERS, to=One)
    traced = tj.function(f, strict=True)
    for kind in (One, Two, One, Two, Two):
        swap(M, Holder.part, *LAYERS, to=kind)
        assert float(traced(x)) == float(f(x))
    assert name == "set" or sum(map(len, traced.traces.values())) == 2
    swap(M, Holder.part, *LAYERS, to=One)


def test_an_argument_whose_class_is_swapped():
    def f(x, m):
        return m(x) + len(m)

    m, x = One(), tj.constant(2.0)
    traced = tj.function(f, strict=True)
    for kind in (One, Two, One, Two):
        swap(m, to=kind)
        assert float(traced(x, m)) == float(f(x, m))


class Idle:
    turns = 0

    def __call__(self, x):
        self.turns += 1
        self.__class__ = Busy
        return x + 1.0

    def __len__(self):
        return 1


class Busy(Idle):
    def __call__(self, x):
        self.__class__ = Idle
        return x * 10.0

    def __len__(self):
        return 2


class Undecided(Idle):
    def __call__(self, x):
        if x > 2:
            self.__class__ = Idle
        return x + 3.0


def turn(x, m):
    return m(x) + len(m)


def test_a_function_that_swaps_the_class_itself():
    traced, one, two = tj.function(turn, strict=True), Idle(), Idle()
    for v in (1.0, 2.0, 3.0, 4.0, 5.0):
        x = tj.constant(v)
        assert float(traced(x, one)) == float(turn(x, two))
        assert type(one) is type(two) and one.turns == two.turns


def test_a_class_that_a_tensor_chooses():
    traced, one, two = tj.function(turn), Undecided(), Undecided()
    with pytest.warns(ConversionWarning, match="a tensor decides which class a Undecided is of"):
        traced(tj.constant(1.0), Undecided())
    for v in (1.0, 3.0, 4.0):
        x = tj.constant(v)
        assert float(traced(x, one)) == float(turn(x, two)) and type(one) is type(two)
