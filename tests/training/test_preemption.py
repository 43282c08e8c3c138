"""Signals: the first asks, the second stops, and afterwards all is as before."""

import os
import signal
import threading

import pytest
import tensorflow as tf

from ifnd_tf import command_line
from ifnd_tf.errors import Stopped
from ifnd_tf.training.preemption import Interruption

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_asks_and_the_second_stops(number):
    said = []
    # A shell starts what runs in its background with SIGINT ignored.
    at_first = signal.signal(number, signal.SIG_DFL)
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped, Interruption(said.append) as interruption:
        assert interruption.received is None
        os.kill(os.getpid(), number)
        assert interruption.received == number
        assert number.name in said[0]
        os.kill(os.getpid(), number)
    assert stopped.value.number == number and len(said) == 1
    assert signal.getsignal(number) is before
    signal.signal(number, at_first)


def test_a_signal_while_a_function_is_traced_is_still_that_signal():
    at_first = signal.signal(signal.SIGTERM, command_line._stop)

    def traced(x):
        for _ in tf.range(3):  # converted by AutoGraph, which makes other errors of exceptions
            os.kill(os.getpid(), signal.SIGTERM)
        return x

    try:
        with pytest.raises(Stopped) as stopped:
            tf.function(traced)(tf.constant(1))
    finally:
        signal.signal(signal.SIGTERM, at_first)
    assert stopped.value.number == signal.SIGTERM


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interruption.received is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_than_the_main_one_takes_no_signals():
    received = []

    def work():
        with Interruption() as interruption:
            received.append(interruption.received)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert received == [None]
