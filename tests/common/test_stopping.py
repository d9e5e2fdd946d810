"""Signals become a request for an end; what comes again changes nothing, but for Ctrl-C."""

from __future__ import annotations

import os
import signal

import pytest

from data_prep.common.stopping import Stopped, stop_on_signals

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_for_an_end(number: signal.Signals) -> None:
    former = signal.getsignal(number)
    with stop_on_signals() as stop:
        stop.raise_if_asked()
        os.kill(os.getpid(), number)
        with pytest.raises(Stopped) as caught:
            stop.raise_if_asked()
        assert caught.value.exit_status == 128 + number
        # systemd sends it to all processes of a service, and a script hands it on once more.
        for again in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), again)
        assert stop.signal_number == number
    assert signal.getsignal(number) == former


def test_a_second_ctrl_c_ends_at_once() -> None:
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGINT)
    assert ended.value.code == 130


def test_a_signal_where_there_is_nothing_to_finish_ends_at_once() -> None:
    with stop_on_signals(armed=False) as stop, pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not stop.signal_number


def test_a_signal_that_is_ignored_stays_so() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.raise_if_asked()
    finally:
        signal.signal(signal.SIGHUP, former)
