"""Folders without locks: of two runs one has them, and what a killed run left is taken over."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from data_prep.common import lease
from data_prep.common.errors import UserError
from tests.running import HANG_SECONDS


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_SECONDS_BETWEEN_RENEWALS", 0.05)
    monkeypatch.setattr(lease, "_SECONDS_OF_SILENCE", 1.0)
    monkeypatch.setattr(lease, "_SECONDS_BETWEEN_LOOKS", 0.2)
    monkeypatch.setattr(lease, "_SECONDS_TO_SETTLE", 0.1)


@pytest.fixture
def patient(soon: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lives may be slow to renew its lease."""
    monkeypatch.setattr(lease, "_SECONDS_OF_SILENCE", float(HANG_SECONDS))


def test_a_second_run_stops_and_the_first_goes_on(tmp_path: Path, patient: None) -> None:
    path = tmp_path / lease.NAME
    with lease.leased(str(tmp_path), "format_notes") as require_own:
        run = json.loads(path.read_text())["run"]
        with (
            pytest.raises(UserError, match=f"another format_notes writes there, run {run[:8]}"),
            lease.leased(str(tmp_path), "format_notes"),
        ):
            pytest.fail("two runs have the folder")
        require_own()
        assert json.loads(path.read_text())["run"] == run
    assert not path.exists()
    with lease.leased(str(tmp_path), "format_notes"):
        pass


def test_a_killed_runs_folder_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / lease.NAME).write_text('{"run": "0123456789abcdef", "renewed": 4}')
    begin = time.monotonic()
    with lease.leased(str(tmp_path), "format_notes"):
        assert time.monotonic() - begin >= 1.0
    assert not (tmp_path / lease.NAME).exists()


def test_what_is_no_lease_is_taken_over_too(tmp_path: Path) -> None:
    (tmp_path / lease.NAME).write_text("")
    with lease.leased(str(tmp_path), "format_notes"):
        pass
    assert not (tmp_path / lease.NAME).exists()


def test_a_run_that_was_taken_over_says_so_and_leaves_the_others_lease(tmp_path: Path) -> None:
    path = tmp_path / lease.NAME
    with (
        pytest.raises(UserError, match="another format_notes writes there, run fedcba98"),
        lease.leased(str(tmp_path), "format_notes") as require_own,
    ):
        # As after a pause in which this run could not renew it.
        path.write_text('{"run": "fedcba9876543210", "renewed": 0}')
        require_own()
    assert json.loads(path.read_text())["run"] == "fedcba9876543210"


def test_of_two_that_begin_together_one_has_it(tmp_path: Path, patient: None) -> None:
    begin, stopped, outcomes = threading.Barrier(2), threading.Event(), []

    def run() -> None:
        begin.wait()
        try:
            with lease.leased(str(tmp_path), "format_notes") as require_own:
                while not stopped.wait(0.05):
                    require_own()
            outcomes.append("had it")
        except UserError:
            outcomes.append("stopped")
            stopped.set()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["had it", "stopped"]


def test_the_error_in_the_block_is_the_one_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lease.leased(str(tmp_path), "format_notes"):
        raise KeyError("its own")
    assert not (tmp_path / lease.NAME).exists()
