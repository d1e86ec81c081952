"""Signals that come while a traced function runs: a call is done whole, or not at all."""

import contextlib
import random
import signal
import threading

import pytest

import tracejit as tj
from tracejit.lower.binding import see_signals
from tracejit.runtime import interrupts

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Interrupted(BaseException):
    pass


@pytest.fixture(autouse=True)
def alarms():
    def alarm(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, alarm)
    yield alarm
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert signal.getsignal(signal.SIGALRM) is alarm
    signal.signal(signal.SIGALRM, before)


def interrupted(f, seed, check):
    """Call a function again and again, signals coming at any time; a few are lost where Python cannot raise."""
    rng = random.Random(seed)
    for _ in range(5):
        f()
    for _ in range(150):
        with contextlib.suppress(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0001, 0.002))
            for _ in range(1000):
                f()
        signal.setitimer(signal.ITIMER_REAL, 0)
        check()


class Counter:
    n = 0


def test_variables_and_objects_move_together():
    v, w, s, heard = tj.Variable(0.0, dtype=tj.float64), tj.Variable(tj.zeros((50,))), Counter(), []

    @tj.function
    def step(x):
        v.assign_add(1.0)
        w.assign_add(x)
        s.n += 1
        heard.append(x[0])
        return v + 1.0

    x = tj.ones((50,))

    def check():
        assert float(v) == float(w[0]) == s.n == len(heard)

    interrupted(lambda: step(x), 7, check)


def test_objects_alone_move_together():
    s, heard, other = Counter(), [], []

    @tj.function
    def step(x):
        heard.append(x[0])
        s.n += 1
        other.append(x[1])

    x = tj.ones((2,))

    def check():
        assert s.n == len(heard) == len(other)

    interrupted(lambda: step(x), 8, check)


def test_signals_are_held_and_follow(alarms):
    with pytest.raises(Interrupted), interrupts.whole:
        interrupts.hold()
        signal.raise_signal(signal.SIGALRM)
        with interrupts.whole:
            interrupts.hold()
        signal.raise_signal(signal.SIGALRM)
        done = True
    assert done and signal.getsignal(signal.SIGALRM) is alarms


def test_a_block_inside_releases_what_it_held(alarms):
    with interrupts.whole:
        with interrupts.whole:
            interrupts.hold()
            assert signal.getsignal(signal.SIGALRM) is not alarms
        assert signal.getsignal(signal.SIGALRM) is alarms


def test_other_threads_hold_nothing(alarms):
    seen = []

    def run():
        with interrupts.whole:
            interrupts.hold()
            seen.append(signal.getsignal(signal.SIGALRM))

    t = threading.Thread(target=run)
    t.start()
    t.join()
    assert seen == [alarms]


def test_loops_leave_variables_as_they_were():
    v = tj.Variable(tj.zeros((2000,)))

    @tj.function
    def long(n):
        v.assign_add(tj.ones((2000,)))
        x = tj.ones((40, 40))
        for _ in tj.range(n):
            x = tj.tanh(x @ x)
        return x

    long(tj.constant(2))
    before = v.numpy().copy()
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with pytest.raises(Interrupted):
        long(tj.constant(2**30))
    assert (v.numpy() == before).all()


def test_straight_programs_see_to_signals():
    v = tj.Variable([0.0])

    @tj.function
    def long(x):
        for _ in range(400):
            x = tj.tanh(x @ x)
        v.assign(x[0, :1])
        return x

    x = tj.ones((256, 256))
    long(x)
    (plan,) = long.get_concrete_function(x).executable.plans.values()
    found = [i for i, s in enumerate(plan.steps) if getattr(s, "function", None) is see_signals]
    assert found and found[-1] < len(plan.steps) - 1


def test_signals_that_have_come_are_seen_to():
    with pytest.raises(Interrupted), interrupts.whole:
        interrupts.hold()
        signal.raise_signal(signal.SIGALRM)
        see_signals(0)
