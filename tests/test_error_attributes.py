"""What errors of the user's classes keep in attributes is, for the caller, what plain Python would have put there."""

import traceback

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning

MADE = []
LOG = [1, 2]


class Part:
    def __init__(self, value):
        self.value = value


class Hot(Exception):
    def __init__(self, message, **info):
        super().__init__(message)
        MADE.append(message)
        self.info = info


class Needs(Exception):
    def __init__(self, message, need):
        super().__init__(message)
        self.need = need


class Deep(Exception):
    def __init__(self, value):
        super().__init__("deep", value)
        self.values, self.pair = [value, value + 1], (value, 1)
        self.part = Part(value)
        self.nest = {"a": {"b": [self.part, LOG]}}
        self.log = LOG


class Slotted(Exception):
    __slots__ = ("need",)


class Frozen(Exception):
    def __init__(self, value):
        object.__setattr__(self, "value", value)

    def __setattr__(self, name, value):
        raise TypeError("frozen")


class Given(Exception):
    def __init__(self, message, **attributes):
        super().__init__(message)
        self.__dict__.update(attributes)


class Bag:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Late(Exception):
    pass


def give_up(x):
    raise Needs("hot", x)


class Holder:
    step = 0


HOLDER = Holder()


def by_name(x, n):
    if x > 1:
        raise Hot("hot", x=x, n=3, k=n)
    return x


def by_argument(x, n):
    if x > 1:
        raise Needs("hot", x * n)
    return x


def deep(x, n):
    if x > 1:
        raise Deep(x)
    return x


def late(x, n):
    if x > 1:
        e = Late("hot", n)
        e.x, e.info = x, {"x": x, "n": n}
        e.add_note(f"with {float(x)} and {n}")
        raise e
    return x


def slotted(x, n):
    if x > 1:
        e = Slotted("hot")
        e.need = x + n
        raise e
    return x


def of_system(x, n):
    if x > 1:
        e = OSError(2, "no such thing", "file")
        e.x = x
        raise e
    return x


def always(x, n):
    raise Hot("hot", x=x, k=n)


def after_effect(x, n):
    HOLDER.seen = x
    raise Needs("hot", x)


def loop(x, n):
    while x < 5:
        x = x + 1
        if x > 3:
            raise Hot("hot", x=x)
    return x


def of_object(x, n):
    if x > 1:
        raise Hot("hot", step=HOLDER.step, half=HOLDER.step / 2)
    return x


def caused(x, n):
    try:
        if x > 1:
            raise Hot("in", x=x, k=n)
    except Hot as e:
        raise Needs("out", x * 2) from e
    return x


def caused_at_once(x, n):
    if x > 1:
        raise Needs("out", n) from Hot("in", x=x, deeper=[x, n])
    return x


def meanwhile(x, n):
    try:
        if x > 1:
            raise Hot("in", x=x, k=n, deeper={"in": [[x]]})
    except Hot as e:
        if n > 2:
            raise e
        raise Needs("out", len(e.info) + len(e.info["deeper"]))
    return x


def group(x, n):
    if x > 1:
        raise ExceptionGroup("several", [Hot("one", x=x), Needs("two", n)])
    return x


def frozen(x, n):
    if x > 1:
        raise Frozen(x)
    return x


def given(x, n):
    if x > 1:
        raise Given("hot", part=Part(x), many=[x, (n, [n])])
    return x


def bag(x, n):
    y = x
    if x > 1:
        o = Bag(a=x)
        y = o.a + n
    return y


def itself(x, n):
    e = Late("hot")
    e.x, e.rows = x, [x]
    e.rows.append(e.rows)
    e.me = e
    if x > 1:
        raise e
    return x


def looked_at(x, n):
    try:
        if x > 1:
            raise Needs("in", x * 2)
    except Needs as e:
        return e.need + 1
    return x


FUNCTIONS = [
    by_name, by_argument, deep, late, slotted, of_system, always, after_effect, loop, of_object, caused,
    caused_at_once, meanwhile, group, looked_at, frozen, given,
    bag,
]  # fmt: skip


def shown(x):
    if isinstance(x, tj.Tensor):
        return "tensor", x.numpy().tolist()
    if isinstance(x, (list, tuple)):
        return type(x), [shown(y) for y in x]
    if isinstance(x, dict):
        return {k: shown(v) for k, v in x.items()}
    if isinstance(x, (Part, BaseException)):
        return type(x), shown(vars(x)), shown(getattr(x, "args", ())), shown(getattr(x, "need", None))
    return type(x), x


def told(e):
    return None if e is None else (shown(e), str(e), told(e.__cause__), told(e.__context__), e.__suppress_context__)


def outcomes(f):
    HOLDER.step = 0
    MADE.clear()
    found = []
    for i, v in enumerate([2.0, 0.0, 3.0, 4.0, 5.0, 1.0, 6.0]):
        HOLDER.step += 1
        try:
            found.append(shown(f(tj.constant(v), i)))
        except Exception as e:
            found.append((told(e), len(getattr(e, "exceptions", ()))))
    return found


@pytest.mark.parametrize("f", FUNCTIONS)
def test_attributes_hold_the_values_of_the_call(f):
    expected = outcomes(f)
    assert outcomes(tj.function(f, strict=True)) == expected


def test_an_error_that_holds_itself():
    f = tj.function(itself, strict=True)
    for v in (2.0, 3.0):
        with pytest.raises(Late) as info:
            f(tj.constant(v), 1)
        e = info.value
        assert e.me is e and e.rows[1] is e.rows and float(e.x) == float(e.rows[0]) == v


def test_errors_of_two_calls_share_nothing_that_the_function_made():
    f = tj.function(deep, strict=True)
    caught = []
    for v in (2.0, 3.0):
        with pytest.raises(Deep) as info:
            f(tj.constant(v), 1)
        caught.append(info.value)
    one, two = caught
    assert one is not two and one.part is not two.part and one.values is not two.values
    assert one.nest["a"]["b"][0] is one.part and one.log is two.log is LOG and one.nest["a"]["b"][1] is LOG


def test_the_class_makes_an_error_once_for_each_trace():
    f = tj.function(by_name, strict=True)
    with pytest.raises(Hot):
        f(tj.constant(2.0), 1)
    MADE.clear()
    for _ in range(3):
        with pytest.raises(Hot):
            f(tj.constant(2.0), 1)
    assert MADE == []


def test_the_error_that_led_to_another_has_its_lines():
    @tj.function(strict=True)
    def f(x, n):
        if x > 1:
            try:
                give_up(x)
            except Needs as e:
                raise Hot("out") from e
        return x

    with pytest.raises(Hot) as info:
        f(tj.constant(2.0), 1)
    assert float(info.value.__cause__.need) == 2.0
    frames = traceback.extract_tb(info.value.__cause__.__traceback__)
    assert [t.name for t in frames if t.filename == __file__] == ["f", "give_up"]
    assert all("tracejit/autograph" not in t.filename for t in frames)


def test_what_cannot_be_carried_leaves_the_function_to_python():
    def f(x):
        if x > 1:
            raise Needs("hot", lambda: x * 2)
        return x

    traced = tj.function(f)
    with pytest.warns(ConversionWarning), pytest.raises(Needs) as info:
        traced(tj.constant(2.0))
    assert float(info.value.need()) == 4.0
    with pytest.raises(Needs) as info:
        traced(tj.constant(3.0))
    assert float(info.value.need()) == 6.0


def test_a_variable_stays_the_variable():
    v = tj.Variable(np.float32(1.0))

    @tj.function(strict=True)
    def f(x):
        if x > 1:
            raise Needs("hot", v)
        return x

    for value in (2.0, 3.0):
        with pytest.raises(Needs) as info:
            f(tj.constant(value))
        assert info.value.need is v
