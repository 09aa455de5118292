"""Reading ahead and writing behind: order, bounds, and that no error is lost in a thread."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.prefetch import BackgroundWriter, prefetch


class Failed(Exception):  # noqa: N818
    """What a thread raises in these tests."""


@given(st.lists(st.integers()), st.integers(1, 5))
def test_read_ahead_keeps_items_and_order_and_knows_the_last(items, ahead):
    with prefetch(items, ahead) as read:
        assert list(read) == [(item, index == len(items) - 1) for index, item in enumerate(items)]


def test_read_ahead_is_early_but_bounded():
    begun = []

    def items():
        for index in range(20):
            begun.append(index)
            yield index

    with prefetch(items(), ahead=4) as read:
        assert next(read) == (0, False)
        deadline = time.monotonic() + 5
        while len(begun) < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert begun == [0, 1, 2, 3, 4]


def test_items_before_an_error_arrive_and_the_error_in_its_turn():
    def items():
        yield "first"
        yield "second"
        raise Failed

    with prefetch(items(), ahead=8) as read:
        assert next(read) == ("first", False)
        assert next(read) == ("second", False)
        with pytest.raises(Failed):
            next(read)


def test_leaving_early_stops_the_thread():
    def items():
        while True:
            yield threading.current_thread()

    with prefetch(items(), ahead=3) as read:
        thread, _ = next(read)
        assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_all_calls_are_done_when_the_block_ends():
    done = []
    with BackgroundWriter(threads=2, waiting=3) as write:
        for index in range(50):
            write.submit(done.append, index)
    assert sorted(done) == list(range(50))


def test_one_thread_keeps_the_order():
    done = []
    with BackgroundWriter(threads=1) as write:
        for index in range(50):
            write.submit(done.append, index)
    assert done == list(range(50))


def test_waiting_calls_are_bounded():
    gate, begun = threading.Event(), []

    def call(index):
        begun.append(index)
        gate.wait(10)

    def fill():
        with BackgroundWriter(threads=1, waiting=2) as write:
            for index in range(6):
                write.submit(call, index)
                submitted.append(index)

    submitted: list[int] = []
    thread = threading.Thread(target=fill)
    thread.start()
    deadline = time.monotonic() + 5
    while len(submitted) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert submitted == [0, 1]  # the third waits for the first, which waits for the gate
    gate.set()
    thread.join()
    assert begun == list(range(6))


def fail():
    raise Failed


def test_an_error_is_raised_when_the_block_ends():
    with pytest.raises(Failed), BackgroundWriter() as write:
        write.submit(fail)


def test_an_error_is_raised_at_a_later_submit():
    submitted = []

    def submit_many():
        with BackgroundWriter(waiting=2) as write:
            for index in range(100):
                write.submit(fail)
                submitted.append(index)

    with pytest.raises(Failed):
        submit_many()
    assert len(submitted) <= 3


def test_an_error_of_the_last_call_is_raised_too():
    def succeed_then_fail():
        with BackgroundWriter(threads=1) as write:
            write.submit(time.sleep, 0.01)
            write.submit(fail)

    with pytest.raises(Failed):
        succeed_then_fail()


def test_an_error_of_the_block_drops_what_has_not_begun_and_wins():
    gate, done = threading.Event(), []

    def first():
        gate.wait(10)
        done.append("first")

    def leave():
        with BackgroundWriter(threads=1) as write:
            write.submit(first)
            write.submit(done.append, "second")
            threading.Timer(0.05, gate.set).start()
            raise Failed

    with pytest.raises(Failed):
        leave()
    assert done == ["first"]
