"""format_notes and create_pretraining_data on a real Spark, and whatever befalls it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.beam_pipelines import folder_bytes
from tests.clusters import engines
from tests.clusters.engines import Cluster
from tests.clusters.nodes import network
from tests.clusters.work import (
    CREATE_PRETRAINING_DATA,
    FORMAT_NOTES,
    assert_makes_the_same,
    at_work,
    format_flags,
    formatted_notes,
    kill_worker,
    make_notes,
    pretraining_flags,
    wait_for,
)
from tests.running import HANG_SECONDS, assert_success, run_program


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with (
        network(3) as nodes,
        engines.spark(nodes, tmp_path_factory.mktemp("spark")) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def few_notes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_notes(tmp_path_factory.mktemp("few") / "notes", 240)


@pytest.fixture(scope="module")
def many_notes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_notes(tmp_path_factory.mktemp("many") / "notes", 3000)


def test_text_and_examples_are_those_of_one_machine(
    tmp_path: Path, cluster: Cluster, few_notes: str
) -> None:
    text = tmp_path / "text"
    assert_makes_the_same(FORMAT_NOTES, format_flags(few_notes), cluster.flags, text)
    flags = pretraining_flags(text)
    assert_makes_the_same(CREATE_PRETRAINING_DATA, flags, cluster.flags, tmp_path / "examples")
    assert list(tmp_path.glob("examples/*.tfrecord"))


def test_a_lost_worker_is_made_up_for(tmp_path: Path, cluster: Cluster, many_notes: str) -> None:
    flags = format_flags(many_notes)
    alone, out = tmp_path / "alone", tmp_path / "out"
    assert_success(run_program(FORMAT_NOTES, output_dir=alone, **flags))
    with at_work(FORMAT_NOTES, output_dir=out, **flags, **cluster.flags) as program:
        wait_for("notes are formatted", lambda: formatted_notes(out), program)
        kill_worker(cluster.workers)
        said, error = program.communicate(timeout=HANG_SECONDS)
    assert (program.returncode, error) == (0, ""), said
    assert folder_bytes(out) == folder_bytes(alone)


def test_a_program_that_is_ended_ends_its_job(
    tmp_path: Path, cluster: Cluster, many_notes: str
) -> None:
    out = tmp_path / "out"
    flags = format_flags(many_notes)
    with at_work(FORMAT_NOTES, output_dir=out, **flags, **cluster.flags) as program:
        wait_for("notes are formatted", lambda: formatted_notes(out), program)
        assert cluster.running_jobs()
        program.send_signal(signal.SIGTERM)
        _, error = program.communicate(timeout=HANG_SECONDS)
    assert (program.returncode, error) == (143, "format_notes: error: terminated\n")
    cluster.processes.wait("the end of the application", lambda: not cluster.running_jobs())
    assert not list(out.iterdir())
