"""Classes whose special methods note that they are called, for `test_special_methods.py`."""

import dataclasses

import numpy as np

cnt = {"n": 0}
reg = []


def tick(k=1):
    cnt["n"] += k


class R:
    def __init__(s, v):
        s.v = v
        s.asked = 0

    def __lt__(s, o):
        s.asked += 1
        return s.v < o.v

    def __eq__(s, o):
        s.asked += 1
        return isinstance(o, R) and s.v == o.v

    def __hash__(s):
        tick()
        return s.v

    def __add__(s, o):
        tick()
        return R(s.v + getattr(o, "v", o))

    __radd__ = __add__

    def __mul__(s, o):
        tick()
        return R(s.v * 2)

    def __repr__(s):
        tick()
        return f"R{s.v}"

    def __float__(s):
        tick()
        return float(s.v)

    def __int__(s):
        tick()
        return int(s.v)

    def __index__(s):
        tick()
        return int(s.v)

    def __complex__(s):
        tick()
        return complex(s.v)

    def __floor__(s):
        tick()
        return int(s.v)

    def __ceil__(s):
        tick()
        return int(s.v)

    def __trunc__(s):
        tick()
        return int(s.v)

    def __divmod__(s, o):
        tick()
        return 1, 2

    def __pow__(s, o, m=None):
        tick()
        return 3

    def __bool__(s):
        tick()
        return True

    def __len__(s):
        tick()
        return 2

    def __bytes__(s):
        tick()
        return b"a"

    def __fspath__(s):
        tick()
        return "a"

    def __reversed__(s):
        tick()
        return iter([1, 2])

    def __contains__(s, o):
        tick()
        return True

    def __copy__(s):
        tick()
        return R(s.v)

    def __getstate__(s):
        tick()
        return {"v": s.v}

    def __setitem__(s, k, v):
        tick()

    def __delitem__(s, k):
        tick()

    def __iter__(s):
        tick()
        return iter([s.v, s.v])

    def __getitem__(s, k):
        tick()
        return s.v

    def __enter__(s):
        tick()
        return s

    def __exit__(s, *a):
        tick()

    def __call__(s, *a):
        tick()
        return s.v

    def __iadd__(s, o):
        tick()
        return s

    def __dir__(s):
        tick()
        return ["a"]

    def __sizeof__(s):
        tick()
        return 10

    def __instancecheck__(s, o):
        tick()
        return True

    def __matmul__(s, o):
        tick()
        return 1

    def __array__(s, *a, **k):
        tick()
        return np.ones(2, "f4")


@dataclasses.dataclass(order=True)
class D:
    r: object


class IC(type):
    def __instancecheck__(c, o):
        tick()
        return True

    def __subclasscheck__(c, o):
        tick()
        return True

    def __len__(c):
        tick()
        return 3

    def __iter__(c):
        tick()
        return iter((1, 2))

    def __getitem__(c, k):
        tick()
        return 7

    def __contains__(c, k):
        tick()
        return True

    def __prepare__(*a, **k):
        tick()
        return {}


class WithIC(metaclass=IC):
    pass


class Sub:
    def __init_subclass__(cls, **k):
        reg.append(1)
        tick()

    def __class_getitem__(cls, k):
        tick()
        return cls


class SetName:
    def __set_name__(s, o, n):
        tick()


class Desc:
    def __get__(s, o, t):
        tick()
        return 3

    def __set__(s, o, v):
        tick()

    def __delete__(s, o):
        tick()


class HasD:
    d = Desc()


class Miss(dict):
    def __missing__(s, k):
        tick()
        return 5


class L2(list):
    def append(s, x):
        tick()
        list.append(s, x)


class H:
    def __init__(s, v):
        s.v = v

    def __hash__(s):
        tick()
        return 1

    def __eq__(s, o):
        tick()
        return s.v == o.v


class GA:
    def __getattr__(s, n):
        tick()
        return 4


class GAA:
    def __getattribute__(s, n):
        tick()
        return object.__getattribute__(s, n)


class Gen:
    def __iter__(s):
        tick()
        yield 1.0
        tick()
        yield 2.0


class Old:
    def __getitem__(s, i):
        tick()
        if i > 2:
            raise IndexError
        return i


class Cmp:
    def __init__(s, v):
        s.v = v

    def __lt__(s, o):
        reg.append(s.v)
        return s.v < o.v


class Un:
    def __del__(s):
        pass

    def __neg__(s):
        tick()
        return 1

    def __pos__(s):
        tick()
        return 1

    def __invert__(s):
        tick()
        return 1

    def __abs__(s):
        tick()
        return 1

    def __round__(s, n=0):
        tick()
        return n


def deco(f):
    tick()
    return f


r1, r2, r3 = R(3), R(1), R(2)
T = {}
