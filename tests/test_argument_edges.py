"""What `function`, its signatures and a few other functions are given by mistake, and what the errors show."""

import datetime
import decimal
import fractions
import traceback
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.__main__ import main
from tracejit.errors import ArgumentError, CacheWarning, DTypeError, GradientError, SignatureError
from tracejit.runtime import cache


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: tj.function(lambda x: x, input_signatur=1), SignatureError, "input_signatur"),
        (lambda: tj.function(3), SignatureError, "takes a function, not int"),
        (lambda: tj.function(lambda x: x, numerics="foo"), ArgumentError, "'foo'"),
        (lambda: tj.TensorSpec("ab"), ArgumentError, "shape such as"),
        (lambda: tj.TensorSpec(3), ArgumentError, "shape such as"),
        (lambda: tj.TensorSpec([2.5]), ArgumentError, "2.5"),
        (lambda: tj.function(lambda x: x, input_signature=tj.TensorSpec((3,))), SignatureError, "a list of"),
        (lambda: tj.function(lambda x: x, input_signature=[3]), SignatureError, "holds TensorSpecs, not 3"),
        (lambda: tj.set_threads(True), ArgumentError, "True"),
        (lambda: tj.random.normal((2,), seed=1.5), DTypeError, "seed must be an integer"),
        (lambda: tj.random.Generator.from_seed(1.5), DTypeError, "seed must be an integer"),
        (lambda: tj.function(lambda: tj.eye(-2))(), ArgumentError, "eye of -2 rows"),
        (lambda: tj.eye(2, -1), ArgumentError, "-1 columns"),
        (lambda: tj.constant(2**70), DTypeError, f"the integer {2**70} fits no"),
        (lambda: tj.constant([1, -(2**70)], tj.int64), DTypeError, f"the integer -{2**70} fits no"),
    ],
)
def test_mistakes_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_large_integers_as_floats():
    assert tj.constant(2**70, tj.float32).numpy() == np.float32(2.0**70)


def test_keywords_of_tensorflow_are_taken():
    f = tj.function(lambda x: x, jit_compile=True, experimental_relax_shapes=True, experimental_attributes=None)
    assert f(tj.ones(1)).numpy()[0] == 1


def test_signatures_compare_structures():
    spec = tj.TensorSpec((3,))
    f = tj.function(lambda d: d["a"] + d["b"], input_signature=[{"a": spec, "b": spec}])
    x = tj.ones(3)
    assert f({"b": x, "a": x}).numpy()[0] == 2
    for wrong in ([x, x], {"a": x, "c": x}):
        with pytest.raises(ArgumentError, match="the signature wants"):
            f(wrong)


class Methods:
    @tj.function
    @staticmethod
    def static(x):
        return x * 2.0

    @tj.function
    @classmethod
    def of_class(cls, x):
        return x * (3.0 if cls is Methods else 0.0)


def test_static_and_class_methods():
    x = tj.ones(1)
    for owner in (Methods, Methods()):
        assert (owner.static(x).numpy()[0], owner.of_class(x).numpy()[0]) == (2, 3)


def test_masks_of_no_axes_under_a_tape():
    v = tj.Variable([1.0, 2.0])
    with tj.GradientTape() as tape:
        y = v[tj.constant(True)]
        assert (y.shape, v[tj.constant(False)].shape) == ((1, 2), (0, 2))
    assert tape.gradient(y, v).numpy().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("wrap", [lambda f: f, tj.function])
def test_custom_gradients_have_the_shape_of_the_argument(wrap):
    @tj.custom_gradient
    def double(x):
        return x * 2.0, lambda g: tj.ones((5,))

    def gradient():
        with tj.GradientTape() as tape:
            tape.watch(x := tj.ones(3))
            y = double(x)
        return tape.gradient(y, x)

    with pytest.raises(GradientError, match=r"returned f32\[5\] for a tensor f32\[3\]"):
        wrap(gradient)()


# --- what errors and warnings show ----------------------------------------------------------------------------------
def shown(f):
    try:
        f()
    except Exception as e:
        return "".join(traceback.format_exception(e))
    raise AssertionError("no error")


def test_errors_of_user_code_in_a_trace_show_no_frames_of_ours():
    @tj.function
    def attribute(x):
        return x.foo

    @tj.function
    def chained(x):
        try:
            return x + tj.ones(7)
        except ValueError as e:
            raise RuntimeError("mine") from e

    for f in (attribute, chained):
        text = shown(lambda f=f: f(tj.ones(2)))
        assert "/tracejit/" not in text.replace(__file__, ""), text
    with pytest.raises(AttributeError, match="no attribute 'foo'"):
        attribute(tj.ones(2))
    assert not hasattr(tj.ones(2), "foo")


def test_cache_warnings_name_the_users_line(monkeypatch):
    monkeypatch.setattr(cache, "_warned", False)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        cache._warn_once("no room")
    assert [(w.category, w.filename) for w in found] == [(CacheWarning, __file__)]


def test_the_benchmark_says_how_to_give_arguments(tmp_path, capsys):
    path = tmp_path / "needs_arguments.py"
    path.write_text("def f(x, y): return x * y\n")
    assert main(["bench", f"{path}:f"]) == 1
    err = capsys.readouterr().err
    assert "missing a required argument: 'x'" in err and "--args" in err and "f_args()" in err


def test_a_traced_function_is_traced_once_for_equal_values():
    f = tj.function(lambda x, k: x + 1.0)
    for _ in range(3):
        f(tj.ones(3), frozenset([1, "a"]))
        f(tj.ones(3), fractions.Fraction(1, 2))
        f(tj.ones(3), decimal.Decimal("0.5"))
        f(tj.ones(3), datetime.date(2020, 1, 2))
    assert f.experimental_get_tracing_count() == 4


def test_specs_of_tensors():
    spec = tj.TensorSpec.from_tensor(tj.ones((2, 3)))
    assert spec == tj.TensorSpec((2, 3), tj.float32)
    open_spec = tj.TensorSpec((None, 3))
    assert open_spec.is_compatible_with(tj.ones((7, 3))) and open_spec.is_compatible_with(spec)
    assert not open_spec.is_compatible_with(tj.ones((7, 2))) and not spec.is_compatible_with(open_spec)
    assert not open_spec.is_compatible_with(tj.ones((7, 3), tj.float64))
    with pytest.raises(tj.errors.ArgumentError, match="from 0 on"):
        tj.TensorSpec((-2,))


# --- signatures of functions that traced ones call --------------------------------------------------------------------
def _signed():
    @tj.function(input_signature=[tj.TensorSpec((None, 2), tj.float32), tj.TensorSpec((), tj.int32)])
    def g(x, n=3):
        return tj.reduce_sum(x) * tj.cast(n, tj.float32)

    return g


@pytest.mark.parametrize("n", [2, np.int32(2), tj.constant(2)])
def test_signatures_fit_arguments_in_traced_functions_too(n):
    g = _signed()
    want = float(g([[1.0, 2.0]], n))
    assert want == 6.0
    assert float(tj.function(lambda: g([[1.0, 2.0]], n))()) == want
    assert float(tj.function(lambda k: g(n=k, x=[[1.0, 2.0]]))(n)) == want
    assert float(tj.function(lambda x: g(x[:, :2], n))(tj.ones((1, 3)) * 1.5)) == want
    assert [float(g(tj.ones((k, 2)))) for k in (1, 2, 3, 2)] == [6.0, 12.0, 18.0, 12.0]
    assert float(tj.function(lambda x: g(x))(tj.ones((1, 2)))) == 6.0


@pytest.mark.parametrize(
    "args",
    [
        (tj.ones((3, 3)), 2), (tj.ones((3,)), 2), (tj.ones((3, 2), tj.float64), 2), (tj.ones((3, 2)), 2.5),
        (tj.ones((3, 2)), 2, 1), (None, 2), ("text", 2), (tj.ones((3, 2)), [1, 2]),
    ],
)  # fmt: skip
def test_signatures_are_checked_in_traced_functions_too(args):
    g = _signed()
    errors = []
    for call in (lambda: g(*args), tj.function(lambda: g(*args)), lambda: tj.function(lambda *a: g(*a))(*args)):
        with pytest.raises((ArgumentError, SignatureError)) as e:
            call()
        errors.append((e.type, str(e.value).split("\n")[0].split(": cannot")[0]))
    assert errors[0] == errors[1] and errors[0][0] is errors[2][0]
