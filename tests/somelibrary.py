"""A package that others have written, as tests see it: `test_library_results` puts it where installed packages are."""

import array
import collections
import contextlib
import functools
import itertools

_drawn = 0
_ids = itertools.count()
_names = {}
_table = None


def drawn():
    global _drawn
    _drawn += 1
    return _drawn


def next_id():
    return next(_ids)


def named(name):
    _names[f"{name}{len(_names)}"] = name
    return len(_names)


def table():
    global _table
    if _table is None:
        _table = [3.0]
    return _table[0]


def tripled(x, known={}):
    if x not in known:
        known[x] = x * 3.0
    return known[x]


def added(x, to=[]):
    to.append(x)
    return len(to)


def _counter():
    n = 0

    def count():
        nonlocal n
        n += 1
        return n

    return count


count = _counter()


def applied(f, *args):
    return f(*args)


def bumped(x):
    x.n += 1
    return x.n


def popped(x):
    return x["rows"][0].pop()


def first_set(x, value):
    x[0] = value
    return float(x[0])


def first(rows):
    return next(rows)


def drained(rows):
    while rows:
        yield rows.pop()


class Counter:
    made = 0

    def __init__(self, n=0):
        type(self).made += 1
        self.n, self._kept, self.size, self._values = n, {}, None, []

    def bump(self):
        self.n += 1
        return self.n

    def swap(self, n):
        old, self.n = self.n, n
        return old

    def __call__(self, k):
        self.n += k
        return self.n

    def __getitem__(self, k):
        self.n += k
        return self.n

    def __setitem__(self, k, n):
        self.n = n

    @property
    def ticking(self):
        return self.bump()

    @property
    def level(self):
        return self.n

    @level.setter
    def level(self, n):
        self.n = n

    @classmethod
    def total(cls):
        cls.made += 1
        return cls.made

    def doubled(self):
        return self.n * 2.0

    def kept(self, k):
        if k not in self._kept:
            self._kept[k] = k + 1.0
        return self._kept[k]

    @functools.cached_property
    def half(self):
        return 0.5

    def by_half(self):
        return self.half * 4.0

    def seen_before(self):
        seen = hasattr(self, "_seen")
        self._seen = True
        return 1.0 + seen

    def of_size(self, n):
        self.size = n
        return self

    def published(self, n):
        self.result_ = n
        return n

    def least(self):
        self._values.sort()
        return self._values[0]

    def fail(self):
        self.n += 1
        raise ValueError(str(self.n))


class Single(Counter):
    _one = None

    def __new__(cls):
        if cls._one is None:
            cls._one = super().__new__(cls)
        return cls._one

    def __init__(self):
        self.__dict__.setdefault("n", 0)


class Slotted:
    __slots__ = ("n", "_kept")

    def __init__(self):
        self.n = 0

    def bump(self):
        self.n += 1
        return self.n

    def kept(self):
        if not hasattr(self, "_kept"):
            self._kept = 4.0
        return self._kept


class Ring:
    def __init__(self):
        self.values, self._turn = array.array("d", [0.0, 0.0]), collections.deque([1.0, 2.0, 3.0])

    def push(self, x):
        self.values[0] += x
        return self.values[0]

    def next(self):
        self._turn.rotate(-1)
        return self._turn[0]


class Holder:
    def __init__(self, rows):
        self.rows = rows

    def take(self):
        return self.rows.pop()

    def __iter__(self):
        while self.rows:
            yield self.rows.pop()


class Entered:
    def __init__(self):
        self.times, self.on = 0, False

    def __enter__(self):
        self.times += 1
        return self.times

    def __exit__(self, *_): ...


class Switched(Entered):
    def __enter__(self):
        self.on = True
        return 2.0

    def __exit__(self, *_):
        self.on = False


@contextlib.contextmanager
def raised(x):
    x.n += 1
    yield x.n


@contextlib.contextmanager
def with_n(x, n):
    old, x.n = x.n, n
    yield x.n
    x.n = old


def made():
    return Slotted()


class Layer:
    def __init__(self, variable):
        self.w, self._variable = None, variable

    def __call__(self, x):
        if self.w is None:
            self.w = self._variable(2.0)
        self.w.assign_add(1.0)
        return self.w * x
