"""What libraries' code does outside of a traced function is done in each call, in order; where not, it is said."""

import abc
import configparser
import contextlib
import csv
import datetime
import io
import json
import os
import pickle
import sqlite3
import subprocess
import sys
import threading
import time
import types
import unittest.mock
import uuid
import warnings

import numpy as np
import pytest

import tracejit as tj
from tracejit.errors import ConversionWarning


def _rows(wrap):
    out = io.StringIO()
    rows = csv.writer(out)

    @wrap
    def f(x):
        rows.writerow(["a", 1, x])
        print("between")
        rows.writerows([[x * 2.0], ["b"]])
        return x

    for k in range(3):
        f(tj.constant(float(k)))
    return out.getvalue().replace("\r", "").replace("tj.Tensor", "")


def _dumps(wrap):
    text, raw, arrays = io.StringIO(), io.BytesIO(), io.BytesIO()

    @wrap
    def f(x):
        d = {"a": [1, 2]}
        json.dump(d, text)
        own = io.StringIO()
        json.dump(d, own)
        pickle.dump((1, 2), raw)
        np.save(arrays, np.ones(2))
        return x * len(own.getvalue())

    out = [float(f(tj.constant(float(k)))) for k in range(3)]
    return out, text.getvalue(), len(raw.getvalue()), len(arrays.getvalue())


def _events(wrap):
    event, mock, db = threading.Event(), unittest.mock.Mock(), sqlite3.connect(":memory:")
    db.execute("create table t(a)")
    seen = []

    @wrap
    def f(x):
        if x > 1.0:
            event.set()
        mock.hook(3)
        mock(x)
        db.execute("insert into t values (?)", (1,))
        return x

    for k in range(3):
        event.clear()
        f(tj.constant(float(k)))
        seen.append(event.is_set())
    count = db.execute("select count(*) from t").fetchone()[0]
    db.close()
    return seen, mock.hook.call_count, mock.call_count, count


def _warnings(wrap):
    @wrap
    def f(x):
        warnings.warn("careful", UserWarning)
        return x

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for k in range(3):
            f(tj.constant(float(k)))
    return [(str(w.message), w.category.__name__, os.path.basename(w.filename), w.lineno) for w in found]


def _checks_of_a_test_case(wrap):
    case = unittest.TestCase()

    @wrap
    def f(x):
        case.assertEqual(tuple(x.shape), (2,))
        case.assertGreater(float(x[0]), 0.0)
        return x * 2.0

    return f(tj.ones((2,)))


@pytest.mark.parametrize("scene", [_rows, _dumps, _events, _warnings, _checks_of_a_test_case])
def test_statements_that_call_libraries_are_done_in_each_call(scene, twins):
    twins(scene)


def _three(body):
    def scene(wrap):
        log = []

        @wrap
        def f(x):
            body(log)
            return x

        for k in range(3):
            f(tj.constant(float(k)))
            time.sleep(0.002)  # more than clocks need to go on
        return len(log), len(set(map(str, log)))

    return scene


def _started(log):
    t = threading.Thread(target=lambda: log.append(len(log)))
    t.start()
    t.join()


def _in_a_lambda(log):
    rows = csv.writer(io.StringIO())
    (lambda: rows.writerow(["a"]))()
    log.append(len(log))


def _set_and_asked(wrap):
    event, out = threading.Event(), []

    @wrap
    def f(x):
        event.set()
        out.append(event.is_set())
        return x * 2.0 if event.is_set() else x

    return [float(f(tj.constant(1.0))) for _ in range(2)], out


def _environment(wrap):
    os.environ["TRACEJIT_TEST"] = ""

    @wrap
    def f(x):
        os.environ["TRACEJIT_TEST"] = os.environ["TRACEJIT_TEST"] + "."
        return x

    for _ in range(3):
        f(tj.constant(1.0))
    return os.environ.pop("TRACEJIT_TEST")


def _settings(wrap):
    c = configparser.ConfigParser()
    c.read_string("[a]\nb=1")

    @wrap
    def f(x):
        c.set("a", "b", str(c.getint("a", "b") + 1))
        return x * c.getfloat("a", "b")

    return [float(f(tj.constant(1.0))) for _ in range(3)]


FALLING_BACK = [
    _three(lambda log: log.append(datetime.datetime.now())), _three(lambda log: log.append(uuid.uuid4())),
    _three(_started), _three(lambda log: log.append(subprocess.run([sys.executable, "-c", ""]).returncode)),
    _three(_in_a_lambda), _set_and_asked, _environment, _settings,
]  # fmt: skip


@pytest.mark.parametrize("scene", FALLING_BACK)
@pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")
def test_what_is_different_in_each_call_is_never_frozen(scene, twins):
    twins(scene)


def test_a_file_is_written_and_read_in_each_call(tmp_path):
    path = tmp_path / "a"

    @tj.function
    def f(x):
        with open(path, "a") as h:
            h.write(f"{x:.1f};")
        return x * len(path.read_text())

    with pytest.warns(ConversionWarning, match="open"):
        assert [float(f(tj.constant(v))) for v in (1.0, 2.0)] == [4.0, 16.0]
    assert path.read_text() == "1.0;2.0;"


def test_library_objects_without_a_hash_are_called():
    p, q = np.polynomial.Polynomial([1.0, 2.0]), np.poly1d([1.0, 2.0])
    assert float(tj.function(lambda x: x * p(2.0) + q(3.0))(tj.constant(1.0))) == 10.0


def _redirected(wrap):
    @wrap
    def f(x):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            print("value", x)
        return out.getvalue()

    return f


def _assigned(wrap):
    @wrap
    def f(x):
        before, sys.stdout = sys.stdout, io.StringIO()
        try:
            print("value", x)
            return sys.stdout.getvalue()
        finally:
            sys.stdout = before

    return f


class _Quiet:
    def __enter__(self):
        self.before, sys.stdout = sys.stdout, io.StringIO()
        return sys.stdout

    def __exit__(self, *error):
        sys.stdout = self.before


def _quiet(wrap):
    @wrap
    def f(x):
        with _Quiet() as out:
            print("value", x)
        return out.getvalue()

    return f


@pytest.mark.parametrize("make", [_redirected, _assigned, _quiet])
def test_prints_go_where_they_are_sent(make):
    f, want = make(tj.function), [make(lambda f: f)(tj.constant(v)) for v in (1.0, 2.0)]
    with pytest.warns(ConversionWarning, match="sent elsewhere"):
        assert [f(tj.constant(v)) for v in (1.0, 2.0)] == want


def _raising_in_a_test(case, state):
    def change():
        state.append(1.0)
        raise ValueError

    case.assertRaises(ValueError, change)
    return len(state)


def _cleaning_up(case, state):
    case.addCleanup(state.append, 2.0)
    case.doCleanups()
    return sum(state)


@pytest.mark.parametrize("do", [_raising_in_a_test, _cleaning_up])
def test_what_a_library_calls_back_is_seen_behind_the_call(do):
    def run(wrap):
        case, state = unittest.TestCase(), []
        f = wrap(lambda x: x * do(case, state))
        return [(float(f(tj.constant(v))), list(state)) for v in (1.0, 2.0, 3.0)]

    with pytest.warns(ConversionWarning):
        assert run(tj.function) == run(lambda f: f)


def test_asserts_are_of_the_very_objects():
    case, a = unittest.TestCase(), [1.0]
    b = [a]
    tj.function(lambda x: case.assertIs(b[0], a) or x, strict=True)(tj.constant(1.0))
    with pytest.raises(AssertionError):
        tj.function(lambda x: case.assertIs(b[0], [1.0]) or x, strict=True)(tj.constant(1.0))


def _rows_of_a_list(out, s, x):
    s.rows.append(x)
    csv.writer(out).writerow(s.rows)


def _json_of_a_list(out, s, x):
    s.rows.append([1])
    json.dump({"rows": s.rows}, out)


def _rows_by_a_writer(out, s, x):
    s.rows.append(x)
    s.writer.writerow(s.rows)


@pytest.mark.parametrize("do", [_rows_of_a_list, _json_of_a_list, _rows_by_a_writer])
@pytest.mark.filterwarnings("ignore::tracejit.errors.ConversionWarning")
def test_what_a_library_writes_of_lists_is_what_they_hold(do):
    def run(wrap):
        out, s = io.StringIO(), types.SimpleNamespace(rows=[])
        s.writer = csv.writer(out)
        f = wrap(lambda x: do(out, s, x))
        for v in (1.0, 2.0, 3.0):
            f(tj.constant(v))
        return out.getvalue()

    assert run(tj.function) == run(lambda f: f)


class _Counter:
    n = 0


def test_an_object_that_is_written_is_as_the_call_has_made_it():
    def run(wrap):
        out, c = io.BytesIO(), _Counter()

        @wrap
        def f(x):
            c.n += 1
            pickle.dump(c, out)
            return x

        for v in (1.0, 2.0):
            f(tj.constant(v))
        return out.getvalue()

    with pytest.warns(ConversionWarning, match="dump"):
        assert run(tj.function) == run(lambda f: f)


def test_a_class_that_is_registered_is_so_in_the_next_call():
    def run(wrap):
        class Kind(metaclass=abc.ABCMeta):
            pass

        @wrap
        def f(x):
            before = isinstance("text", Kind)
            Kind.register(str)
            return x * isinstance("text", Kind) + 10 * before

        return [float(f(tj.constant(2.0))) for _ in range(2)]

    with pytest.warns(ConversionWarning, match="register"):
        assert run(tj.function) == run(lambda f: f) == [2.0, 12.0]
