"""Concrete functions take what they were traced for; signatures in the place of arguments; methods leave no trace in
their objects."""

import copy
import dataclasses
import gc
import inspect
import pickle
import weakref

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ArgumentError, DTypeError, ShapeError, SignatureError

S = tj.TensorSpec


def failure(kind, f, *args, **kwargs):
    """The message of the error, which has the line of the call in it and none of ours."""
    with pytest.raises(kind) as caught:
        f(*args, **kwargs)
    text = str(caught.value)
    assert "test_concrete_functions.py:" in text and "f(*args, **kwargs)" in text
    return text


@tj.function
def add(x, y):
    return x + y


@tj.function
def scaled(x, n, mode="a", k=2.0):
    return x * k + n if mode == "a" else x - n


# --- what a concrete function takes ---------------------------------------------------------------------------------
def test_concrete_functions_take_what_they_were_traced_for():
    c = add.get_concrete_function(S((None, 3)), S((3,)))
    traces = add.experimental_get_tracing_count()
    for n in (2, 4, 7):
        assert c(tj.ones((n, 3)), np.ones(3, np.float32)).shape == (n, 3)
        assert c(x=tj.ones((n, 3)), y=tj.ones(3)).numpy().tolist() == [[2.0] * 3] * n
        assert c(tj.ones((n, 3)), tj.ones(3)).numpy().tolist() == [[2.0] * 3] * n
    assert add.experimental_get_tracing_count() == traces
    assert c(tj.Variable(np.ones((5, 3), np.float32)), tj.ones(3)).shape == (5, 3)
    for n in (0, 1):
        assert c(tj.ones((n, 3)), tj.ones(3)).shape == (n, 3)


@pytest.mark.parametrize(
    ("args", "kind", "found"),
    [
        ((tj.ones((4, 3), tj.float64), tj.ones(3)), DTypeError, "'x' of the concrete function add is f64[4,3]"),
        ((tj.ones((4, 3)), np.ones(3, np.int32)), DTypeError, "'y' of the concrete function add is i32[3]"),
        ((tj.ones(4), tj.ones(3)), ShapeError, "'x' of the concrete function add is f32[4]"),
        ((tj.ones((4, 2)), tj.ones(3)), ShapeError, "'x' of the concrete function add is f32[4,2]"),
        ((tj.ones((4, 3)), tj.ones(1)), ShapeError, "'y' of the concrete function add is f32[1]"),
        ((tj.ones((4, 3)), tj.Variable(tj.ones(2))), ShapeError, "'y' of the concrete function add is f32[2]"),
        ((tj.ones((4, 3)), "text"), DTypeError, "'y' of the concrete function add is str 'text'"),
        ((tj.ones((4, 3)), [1.0, 2.0, 3.0]), SignatureError, "argument 'y': the concrete function add was traced for"),
    ],
)
def test_other_arguments_are_refused_by_name(args, kind, found):
    text = failure(kind, add.get_concrete_function(S((None, 3)), S((3,))), *args)
    assert found in text
    if kind is not SignatureError:
        assert "traced for" in text and "remedy: call add itself" in text
        assert "f32[d0_0,3]" in text or "f32[3]" in text


def test_the_number_of_arguments_and_their_names():
    c = add.get_concrete_function(S((None, 3)), S((3,)))
    x = tj.ones((4, 3))
    assert "missing a required argument: 'y'" in failure(SignatureError, c, x)
    assert "too many" in failure(SignatureError, c, x, x, x)
    assert "'z'" in failure(SignatureError, c, x, z=x)


def test_parts_of_arguments_are_named():
    f = tj.function(lambda d, s: d["a"] + d["b"][0] + s)
    c = f.get_concrete_function({"a": S((2,)), "b": [S((2,))]}, S((2,)))
    x = tj.ones(2)
    assert c({"a": x, "b": [x]}, x).numpy().tolist() == [3, 3]
    assert "\"d['b'][0]\"" in failure(DTypeError, c, {"a": x, "b": [tj.ones(2, tj.int32)]}, x)
    text = failure(SignatureError, c, {"a": x, "c": [x]}, x)
    assert "argument 'd'" in text and "dict(a=*, b=list(*))" in text and "dict(a=*, c=list(*))" in text


def test_sizes_of_one_name_are_equal():
    f = tj.function(lambda a, b: a @ b)
    c = f.get_concrete_function(S(("n", "n")), S(("n",)))
    assert c(tj.ones((3, 3)), tj.ones(3)).numpy().tolist() == [3, 3, 3]
    text = failure(ShapeError, c, tj.ones((3, 3)), tj.ones(4))
    assert "'b'" in text and "f32[4]" in text and "n = 3" in text and "'a'" in text


def test_python_values_are_part_of_a_concrete_function():
    x = tj.ones(2)
    c = scaled.get_concrete_function(S((2,)), 3, mode="b")
    assert c(x, 4).numpy().tolist() == [-3, -3]  # `mode` is as it was
    assert c(x, 5, mode="b").numpy().tolist() == [-4, -4]
    assert c(x, 4, "b", 2.0).numpy().tolist() == [-3, -3]
    assert "'mode' of the concrete function scaled is str 'a', it was traced for str 'b'" in failure(
        SignatureError, c, x, 4, mode="a"
    )
    assert "float 4.5, it was traced for a Python int" in failure(DTypeError, c, x, 4.5)
    assert "'k' of the concrete function scaled is float 3.0" in failure(SignatureError, c, x, 4, k=3.0)
    assert c(x).numpy().tolist() == [-2, -2]  # with the number that it was asked for
    d = scaled.get_concrete_function(S((2,)), S(()), k=4.0)
    assert d(x, 1, k=3.0).numpy().tolist() == [4, 4]  # a number for a tensor, another for a number
    assert d(x, 1).numpy().tolist() == [5, 5]  # it is an input, not the default
    assert "missing a required argument: 'n'" in failure(SignatureError, d, x)
    e = scaled.get_concrete_function(S((2,)), S(()), k=5.0)  # of the same trace
    assert d.graph is e.graph and e(x, 1).numpy().tolist() == [6, 6] and d(x, 1).numpy().tolist() == [5, 5]


def test_left_out_numbers_of_all_kinds_of_parameters():
    f = tj.function(lambda a, b, /, *c, d, **e: a * b + c[0] + d * e["z"])
    g = f.get_concrete_function(S(()), 2.0, 3, d=4.0, z=S(()))
    one = tj.constant(1.0)
    assert float(g(one, 2.0, 3, z=one)) == 9.0 and float(g(one, 2.0, 5, d=1.0, z=one)) == 8.0
    h = tj.function(lambda a, b, /, c=1, *, d, **e: a * b + c + d * e["z"])
    g = h.get_concrete_function(S(()), 2.0, d=4.0, z=10.0)
    assert float(g(one)) == 43.0 and float(g(one, 3.0, z=0.0)) == 4.0 and float(g(one, d=0.0)) == 3.0
    assert Model(2.0).step.get_concrete_function(3.0)().numpy() == 6.0


# --- what a concrete function says of itself --------------------------------------------------------------------------
def test_what_is_taken_and_given_under_tensorflows_names():
    w, k = tj.Variable(tj.ones(2), name="w"), np.ones(2, np.float32)

    @tj.function
    def f(x, n=3, *rest, mode="a", d=None):
        return {"y": x * w + k * n, "z": (tj.reduce_sum(x), 4, None)}

    c = f.get_concrete_function(S((None, 2)), 5, d={"q": S((), tj.int32)})
    x, q = S((None, 2)), S((), tj.int32)
    assert c.name == f.name == "f" and c.graph.name == "f"
    assert c.structured_input_signature == ((x, 5), {"mode": "a", "d": {"q": q}})
    assert [s.name for s in c.inputs][:3] == ["x", "n", "d['q']"]
    assert c.inputs == [x, S((), tj.int32), q, S((2,)), S((2,))]
    assert c.structured_outputs == {"y": x, "z": (S(()), 4, None)} and c.outputs == [x, S(())]
    assert c.output_shapes == {"y": (None, 2), "z": ((), 4, None)}
    assert c.output_dtypes == {"y": tj.float32, "z": (tj.float32, 4, None)}
    assert c.captured_inputs[0] is k and c.captured_inputs[1] is w and c.variables == (w,)
    assert repr(c) == f"<ConcreteFunction {c.pretty_printed_signature(verbose=False)}>"
    assert repr(c).startswith("<ConcreteFunction f(x: TensorSpec(shape=(None, 2), dtype=float32), n: 5, mode: 'a', ")
    assert str(c).splitlines()[:3] == [
        "ConcreteFunction Input Parameters:",
        "  x (POSITIONAL_OR_KEYWORD): TensorSpec(shape=(None, 2), dtype=float32)",
        "  n (POSITIONAL_OR_KEYWORD): 5",
    ]
    assert "Output Type:" in str(c) and "Captures:" in str(c) and str(c) != c.pretty_printed_signature()
    f(tj.ones((3, 2)), 2)
    assert f.concrete_functions[-1].structured_input_signature == ((S((3, 2)), int), {"mode": "a", "d": None})
    assert f.pretty_printed_concrete_signatures().count("Input Parameters") == 2


def test_results_that_are_made_anew_are_told_by_their_types():
    class Pair:
        def __init__(self, a):
            self.a = a

    @tj.function
    def f(x, flag):
        kept.append(x)
        return len(x), Pair(x), [x, x + 1.0 if flag else None]

    kept = []
    c = f.get_concrete_function(S((None,)), S((), tj.bool))
    a = S((None,))
    assert c.structured_outputs == (int, Pair, [a, a])
    assert c.outputs[-1] == a and len(c.outputs) == 5  # the size, what the pair holds, both items and a flag
    g = tj.function(lambda s: s.w * 2.0)
    made = Model(3.0).step.get_concrete_function(S(()))
    assert made.structured_input_signature == ((S(()),), {}) and made.structured_outputs == S(())
    assert g.get_concrete_function(Model(1.0)).structured_input_signature[0][0].steps == 0
    assert tj.function(np.add).get_concrete_function(S((2,)), S((2,))).pretty_printed_signature().count("ONLY") == 2


def test_concrete_functions_in_other_traces():
    c = add.get_concrete_function(S((None, 3)), S((3,)))
    assert tj.function(lambda x: c(x, x[0]))(tj.ones((4, 3))).numpy()[3].tolist() == [2, 2, 2]
    assert "'y'" in failure(ShapeError, tj.function(lambda x: c(x, x)), tj.ones((4, 3)))


# --- signatures in the place of arguments ---------------------------------------------------------------------------
@tj.function(input_signature=[S((None,)), {"k": S(())}])
def times(x, d):
    return x * d["k"]


@tj.function
def no_arguments():
    return tj.ones(2) * 3


def test_the_signature_stands_for_arguments_that_are_not_given():
    c = times.get_concrete_function()
    assert times.get_concrete_function() is c and times.get_concrete_function(S((None,)), {"k": S(())}) is c
    assert c(tj.ones(5), {"k": tj.constant(2.0)}).numpy().tolist() == [2] * 5
    assert str(times.graph()) == str(c.graph) and "f32[d0_0]" in str(times.graph())
    assert "mul" in str(times.graph(stage="optimized"))
    assert times.explain().startswith("times: traced because: input_signature")
    assert "def main" in times.source()
    assert times.experimental_get_tracing_count() == 1
    assert "mul" in no_arguments.explain() or "constant" in no_arguments.explain()


@pytest.mark.parametrize("ask", ["get_concrete_function", "graph", "explain", "source"])
def test_what_is_missing_is_named_where_there_is_no_signature(ask):
    text = failure(SignatureError, getattr(add, ask))
    assert "add has no input_signature" in text and "'x' and 'y'" in text
    assert "missing a required argument: 'y'" in failure(SignatureError, getattr(add, ask), S((3,)))
    assert "f32[3]" in str(add.graph(S((3,)), y=S((3,))))


def test_specs_and_parameters_are_as_many():
    with pytest.raises(SignatureError, match=r"has 2 TensorSpecs, but one\(x\) takes 1 argument") as caught:

        @tj.function(input_signature=[S((None,)), S(())])
        def one(x):
            return x

    assert "@tj.function(input_signature=[S((None,)), S(())])" in str(caught.value)

    @tj.function(input_signature=[S((None,))])
    def two(x, y, z=3.0):
        return x * y * z

    text = failure(SignatureError, two, tj.ones(2), tj.ones(2))
    assert "has 1 TensorSpec, but two(x, y, z) takes 3 arguments: there is none for 'y'" in text
    assert text.splitlines()[0] == failure(SignatureError, two.graph).splitlines()[0]
    default = tj.function(lambda x, z=3.0: x * z, input_signature=[S((None,))])
    assert default(tj.ones(2)).numpy().tolist() == [3, 3] and default(tj.ones(2), 4.0).numpy().tolist() == [4, 4]
    several = tj.function(lambda *xs: xs[0] + xs[1], input_signature=[S((None,)), S((None,))])
    assert several(tj.ones(2), tj.ones(2)).numpy().tolist() == [2, 2]
    assert "is given 3 arguments, the signature has 2" in failure(SignatureError, several, *[tj.ones(2)] * 3)
    assert "argument xs[1] of <lambda> is f64[2]" in failure(
        ArgumentError, several, tj.ones(2), tj.ones(2, tj.float64)
    )


# --- methods --------------------------------------------------------------------------------------------------------
@dataclasses.dataclass
class Model:
    w: float
    steps: int = 0

    @tj.function
    def step(self, x):
        self.steps += 1
        return x * self.w

    @tj.function(input_signature=[S((None,))])
    def signed(self, x):
        return x + self.w

    @classmethod
    @tj.function(input_signature=[S((None,))])
    def of_class(cls, x):
        return x + 1


def test_methods_leave_nothing_in_their_objects():
    m = Model(2.0)
    for _ in range(3):
        assert m.step(tj.ones(2)).numpy().tolist() == [2, 2]
    assert vars(m) == {"w": 2.0, "steps": 3} == dataclasses.asdict(m) and m == Model(2.0, 3)
    for n in (copy.copy(m), copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert n == m and n.step(tj.ones(2)).numpy().tolist() == [2, 2]
        assert (n.steps, m.steps) == (4, 3) and vars(n) == {"w": 2.0, "steps": 4}
        assert n.step.experimental_get_tracing_count() == 1  # each has traces of its own


def test_methods_of_objects_that_nothing_else_holds():
    refs = []

    def made():
        refs.append(weakref.ref(m := Model(5.0)))
        return m

    step, concrete = made().step, made().step.get_concrete_function(S((2,)))
    assert "mul" in str(made().step.graph(tj.ones(2))) and made().signed(tj.ones(1)).numpy() == 6
    gc.collect()
    assert [r() is None for r in refs] == [False, False, True, True]
    assert step(tj.ones(2)).numpy().tolist() == [5, 5] == concrete(tj.ones(2)).numpy().tolist()
    del step, concrete
    gc.collect()
    assert all(r() is None for r in refs)


def test_what_methods_can_be_asked():
    m = Model(2.0)
    assert m.step == m.step and m.step != Model(2.0).step and m.step.__name__ == "step"
    assert list(inspect.signature(m.step).parameters) == ["x"]
    assert m.step.python_function(np.ones(1)) == 2 and m.steps == 1
    assert "input_signature" in m.signed.explain() and "add" in str(m.signed.graph()) and "add" in m.signed.source()
    assert m.signed.get_concrete_function()(tj.ones(3)).numpy().tolist() == [3, 3, 3]
    assert Model.signed(m, tj.ones(2)).numpy().tolist() == [3, 3] == m.signed(tj.ones(2)).numpy().tolist()
    assert m.of_class(tj.ones(2)).numpy().tolist() == [2, 2] == Model.of_class(tj.ones(2)).numpy().tolist()
    assert "argument x of signed is f32[2,2]" in failure(ArgumentError, m.signed, tj.ones((2, 2)))
    again = pickle.loads(pickle.dumps(m.step))
    assert again(tj.ones(1)).numpy() == 2 and again.__self__.steps == m.steps + 1

    class Wrong:
        @tj.function(input_signature=[S((None,)), S(())])
        def f(self, x):
            return x

    assert "has 2 TensorSpecs, but f(x) takes 1 argument" in failure(SignatureError, Wrong().f, tj.ones(2))


def test_methods_inside_traces_and_of_slotted_objects():
    class Slotted:
        __slots__ = ("w",)

        @tj.function
        def f(self, x):
            return x * self.w

    s, m = Slotted(), Model(2.0)
    s.w = tj.constant(3.0)
    assert s.f(tj.ones(2)).numpy().tolist() == [3, 3]
    assert tj.function(lambda x: m.step(x) + s.f(x))(tj.ones(2)).numpy().tolist() == [5, 5] and m.steps == 1


def test_calls_that_fit_need_no_look_at_their_arguments(monkeypatch):
    """Once a call has fitted, others like it go to native code at once; what does not fit is refused all the same."""
    f = tj.function(lambda x, y: x * 2 + y)
    x, y = tj.ones(4), tj.zeros(4)
    cf = f.get_concrete_function(x, y)
    cf(x, y)
    asked = []
    slow = type(cf)._slow
    monkeypatch.setattr(type(cf), "_slow", lambda self, *a, **k: asked.append(a) or slow(self, *a, **k))
    np.testing.assert_array_equal(cf(x, y), [2.0] * 4)
    assert not asked
    with pytest.raises(tj.errors.ShapeError, match="argument 'x'"):
        cf(tj.ones(3), y)
    with pytest.raises(tj.errors.DTypeError, match="argument 'y'"):
        cf(x, tj.ones(4, tj.float64))
    f(tj.ones(3), tj.ones(3))  # a trace of other arguments is none of this one's
    with pytest.raises(tj.errors.ShapeError, match="argument 'x'"):
        cf(tj.ones(3), tj.ones(3))
    np.testing.assert_array_equal(cf(x, y=y), [2.0] * 4)
    assert len(asked) == 4


# --- what is given where one spec stands ----------------------------------------------------------------------------
def test_a_number_that_each_call_gives_is_missing():
    c = scaled.get_concrete_function(S((None,)), 3, "a", 4.0)
    assert c(tj.ones(2), 3, k=4.0).numpy().tolist() == [7.0, 7.0]
    assert c(tj.ones(2)).numpy().tolist() == [7.0, 7.0]
    text = failure(SignatureError, next(f for f in scaled.concrete_functions if f.graph is c.graph), tj.ones(2), 3)
    assert "'k' of the concrete function scaled is missing: it was traced for any Python float" in text


def test_nested_lists_become_the_tensor_that_the_signature_wants():
    @tj.function(input_signature=[S((None, 2)), {"n": S((), tj.int32), "more": [S((None,))]}])
    def f(x, d):
        return x * 2.0, d["n"] + 1, d["more"][0]

    got = f([[1.0, 2.0]], {"n": 3, "more": [[4, 5]]})
    assert got[0].numpy().tolist() == [[2.0, 4.0]] and int(got[1]) == 4 and got[2].numpy().tolist() == [4.0, 5.0]
    assert got[2].dtype == tj.float32
    bad = [
        (([1.0, 2.0], {"n": 3, "more": [[4.0]]}), "argument x of f is f32[2]"),
        (([[1.0, 2.0]], {"n": 3.5, "more": [[4.0]]}), "argument d['n'] of f cannot become"),
        (([[1.0, 2.0]], {"n": None, "more": [[4.0]]}), "argument d['n'] of f cannot become"),
        (([[1.0, 2.0]], {"n": 2**40, "more": [[4.0]]}), "outside int32's range"),
        (([[1.0], [2.0, 3.0]], {"n": 3, "more": [[4.0]]}), "argument x of f cannot become"),
        (([[1.0, 2.0]], {"n": 3, "more": []}), "argument d['more'] of f has the structure"),
        ((np.ones((1, 2)), {"n": 3, "more": [[4.0]]}), "argument x of f is f64[1,2]"),
    ]
    for args, found in bad:
        assert found in failure(ArgumentError, f, *args)


def test_numbers_and_scattered_arrays_of_numpy_take_the_native_entry():
    """They are what other calls have made plans for: the Python way is not gone again."""

    @tj.function
    def f(x, y):
        return x * y

    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    calls = [(a, np.float32(3)), (a.T, np.float32(3)), (a[::2, ::-1], np.float32(2)), (a, np.ones(8, np.float32)[::2])]
    for _ in range(2):
        for x, y in calls:
            np.testing.assert_array_equal(f(x, y), x * y)
    way, f_call = [], type(f)._call
    try:
        type(f)._call = lambda self, *args: way.append(args) or f_call(self, *args)
        for x, y in calls:
            np.testing.assert_array_equal(f(x, y), x * y)
    finally:
        type(f)._call = f_call
    assert not way


# --- the order of keys ----------------------------------------------------------------------------------------------
def test_keys_in_another_order_are_another_trace():
    by_name = tj.function(lambda **k: tj.stack(list(k.values())))
    in_dict = tj.function(lambda d: (tj.stack(list(d["in"].values())), list(d["in"])))
    for _ in range(3):
        assert by_name(b=tj.constant(1.0), a=tj.constant(2.0)).numpy().tolist() == [1.0, 2.0]
        assert by_name(a=tj.constant(1.0), b=tj.constant(2.0)).numpy().tolist() == [1.0, 2.0]
        values, names = in_dict({"in": {"b": 1.0, "a": 2.0}})
        assert values.numpy().tolist() == [1.0, 2.0] and names == ["b", "a"]
        values, names = in_dict({"in": {"a": 1.0, "b": 2.0}})
        assert values.numpy().tolist() == [1.0, 2.0] and names == ["a", "b"]
    assert by_name.experimental_get_tracing_count() == in_dict.experimental_get_tracing_count() == 2
    assert "the keys of a dict stand in another order" in str(in_dict.explain({"in": {"a": 1.0, "b": 2.0}}))


def test_concrete_functions_take_keys_in_any_order():
    f = tj.function(lambda d: tj.stack(list(d.values())))
    c = f.get_concrete_function({"b": S(()), "a": S(())})
    for d in ({"a": tj.constant(1.0), "b": tj.constant(2.0)}, {"b": tj.constant(2.0), "a": tj.constant(1.0)}):
        assert c(d).numpy().tolist() == [2.0, 1.0]
    assert f.experimental_get_tracing_count() == 1


# --- dataclasses ----------------------------------------------------------------------------------------------------
@dataclasses.dataclass
class Scaled:
    x: object
    factor: dataclasses.InitVar = 3.0

    def __post_init__(self, factor):
        self.product = self.x * factor


def test_attributes_that_are_no_fields_come_along():
    f = tj.function(lambda a: a.product + a.x)
    for _ in range(3):
        assert f(Scaled(tj.ones(2))).numpy().tolist() == [4.0, 4.0]
        assert f(Scaled(tj.ones(2), 1.0)).numpy().tolist() == [2.0, 2.0]
    assert f.experimental_get_tracing_count() == 1
    a = Scaled(tj.ones(2))
    a.note = 5.0
    noted = tj.function(lambda a: a.product * getattr(a, "note", 1.0))
    assert noted(a).numpy().tolist() == [15.0, 15.0] and noted(Scaled(tj.ones(2))).numpy().tolist() == [3.0, 3.0]
    made = tj.function(Scaled)(tj.ones(2))
    assert type(made) is Scaled and made.product.numpy().tolist() == [3.0, 3.0]
    assert [d.numpy().tolist() for d in tj.nest.flatten(made)][:1] == [[1.0, 1.0]]


def test_gradients_by_dataclasses_with_more_attributes():
    a = Scaled(tj.Variable([1.0, 2.0]), 2.0)
    with tj.GradientTape() as tape:
        y = tj.reduce_sum(a.x * a.x)
    assert tape.gradient(y, a.x).numpy().tolist() == [2.0, 4.0]


# --- signatures that leave the rank open ----------------------------------------------------------------------------
def test_any_rank():
    @tj.function(input_signature=[S(None, tj.float32), S((None,))])
    def f(x, y):
        return tj.reduce_sum(x) + y

    for shape in ((), (2,), (3,), (2, 3), (4, 5), (1, 0, 2)):
        for n in (1, 3):
            assert f(tj.ones(shape), tj.ones(n)).numpy().tolist() == [1.0 + np.prod(shape)] * n
    assert f.experimental_get_tracing_count() == 4
    assert repr(S(None)) == "TensorSpec(shape=None, dtype=float32)" and S(None) == S(None) != S(())
    assert S(None).is_compatible_with(tj.ones((2, 3))) and not S(None).is_compatible_with(tj.ones(2, tj.int32))
    assert "is i32[2]" in failure(ArgumentError, f, tj.ones(2, tj.int32), tj.ones(1))
    assert "one rank" in failure(ArgumentError, f.get_concrete_function)
    assert f.get_concrete_function(S((None, 3)), S((None,)))(tj.ones((2, 3)), tj.ones(1)).numpy() == 7


@dataclasses.dataclass
class Scale:
    x: object
    FACTOR = 2.0


@pytest.mark.parametrize(
    "read",
    [
        lambda d: d.x + getattr(d, "more", 0.0),
        lambda d: d.x + (d.more if hasattr(d, "more") else 0.0),
        lambda d: d.x + vars(d).get("more", 0.0),
        lambda d: d.x + d.FACTOR,
    ],
    ids=["getattr", "hasattr", "vars", "class attribute"],
)
def test_attributes_that_come_later(read, monkeypatch):
    """They are seen whether the call goes through native code or not."""
    f = tj.function(read)
    for _ in range(3):
        assert float(f(Scale(1.0))) == read(Scale(1.0))
    d = Scale(1.0)
    assert float(f(d)) == read(d)
    d.more = 5.0
    assert float(f(d)) == read(d)
    d.FACTOR = 7.0
    assert float(f(d)) == read(d)
    monkeypatch.setattr(Scale, "FACTOR", 9.0)
    for _ in range(2):
        assert float(f(Scale(1.0))) == read(Scale(1.0))
        assert float(f(d)) == read(d)
