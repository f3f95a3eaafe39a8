"""A first signal waits for a safe moment within the loop, a second one does not; outside the loop the first acts at once."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from burnish.engine.signals import Interruption, StopRequested

BOTH = [signal.SIGINT, signal.SIGTERM]


def strike(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", BOTH)
def test_within_the_loop_a_signal_waits_for_the_check(number: int) -> None:
    with Interruption().listening() as interruption, interruption.deferring():
        interruption.check()
        strike(number)
        reached = True
        with pytest.raises(StopRequested) as caught:
            interruption.check()
    assert reached and caught.value.signal_number == number and str(caught.value) == signal.Signals(number).name


@pytest.mark.parametrize("number", BOTH)
def test_a_second_signal_acts_at_once(number: int) -> None:
    with Interruption().listening() as interruption, interruption.deferring():
        strike(signal.SIGTERM)
        with pytest.raises(StopRequested) as caught:
            strike(number)
            raise AssertionError("the second signal waited")
    assert caught.value.signal_number == number


@pytest.mark.parametrize("number", BOTH)
def test_outside_the_loop_a_signal_acts_at_once(number: int) -> None:
    with Interruption().listening() as interruption:
        with interruption.deferring():
            pass
        with pytest.raises(StopRequested):
            strike(number)
            raise AssertionError("the signal waited")


def test_handlers_are_given_back_even_after_an_error() -> None:
    before = [signal.getsignal(number) for number in BOTH]
    with pytest.raises(ValueError), Interruption().listening():
        assert [signal.getsignal(number) for number in BOTH] != before
        raise ValueError
    assert [signal.getsignal(number) for number in BOTH] == before


def test_in_another_thread_signals_are_left_alone() -> None:
    """A notebook or a server may train beside its main thread, where Python allows no handlers."""
    found: list[object] = []

    def work() -> None:
        try:
            with Interruption().listening() as interruption:
                interruption.check()
                found.append(signal.getsignal(signal.SIGINT))
        except Exception as error:
            found.append(error)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]
