"""format_notes and create_pretraining_data on a real Flink, and whatever befalls it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.beam_pipelines import folder_bytes
from tests.clusters import engines
from tests.clusters.engines import Cluster
from tests.clusters.nodes import Network, network
from tests.clusters.work import (
    CREATE_PRETRAINING_DATA,
    FORMAT_NOTES,
    assert_makes_the_same,
    assert_says_nothing_of_notes,
    at_work,
    format_flags,
    formatted_notes,
    kill_worker,
    kill_workers,
    make_notes,
    pretraining_flags,
    wait_for,
)
from tests.format_notes_program import SPACY_MODEL
from tests.running import HANG_SECONDS, assert_one_line_error, assert_success, run_program


@pytest.fixture(scope="module")
def nodes() -> Iterator[Network]:
    with network(3) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(nodes: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with engines.flink(nodes, tmp_path_factory.mktemp("flink")) as made:
        yield made


@pytest.fixture(scope="module")
def few_notes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_notes(tmp_path_factory.mktemp("few") / "notes", 240)


@pytest.fixture(scope="module")
def many_notes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_notes(tmp_path_factory.mktemp("many") / "notes", 6000)


def test_text_and_examples_are_those_of_one_machine(
    tmp_path: Path, cluster: Cluster, few_notes: str
) -> None:
    text = tmp_path / "text"
    assert_makes_the_same(FORMAT_NOTES, format_flags(few_notes), cluster.flags, text)
    examples = tmp_path / "examples"
    flags = pretraining_flags(text)
    assert_makes_the_same(CREATE_PRETRAINING_DATA, flags, cluster.flags, examples)
    assert list(tmp_path.glob("examples/*.tfrecord"))


def test_spacy_sentences_are_those_of_one_machine(
    tmp_path: Path, cluster: Cluster, few_notes: str
) -> None:
    flags = format_flags(few_notes, sentence_splitter="spacy", spacy_model=SPACY_MODEL)
    assert_makes_the_same(FORMAT_NOTES, flags, cluster.flags, tmp_path / "text")


@pytest.mark.parametrize("lost", ["worker", "node"])
def test_what_is_lost_at_work_is_done_again(
    tmp_path: Path, cluster: Cluster, many_notes: str, lost: str
) -> None:
    flags = format_flags(many_notes)
    alone, out = tmp_path / "alone", tmp_path / "out"
    assert_success(run_program(FORMAT_NOTES, output_dir=alone, **flags))
    node = cluster.workers[1]
    with at_work(FORMAT_NOTES, output_dir=out, **flags, **cluster.flags) as program:
        wait_for("notes are formatted", lambda: formatted_notes(out), program)
        if lost == "worker":
            kill_worker([node])
        else:
            node.kill()
            cluster.processes.restart(node)
        said, error = program.communicate(timeout=HANG_SECONDS)
    assert (program.returncode, error) == (0, ""), said
    assert folder_bytes(out) == folder_bytes(alone)
    if lost == "worker":
        assert "was killed, as happens when memory runs out" in cluster.processes.log("pool-2")


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
    assert cluster.running_jobs() == []
    assert not list(out.iterdir())


def test_two_programs_share_a_cluster(tmp_path: Path, cluster: Cluster, few_notes: str) -> None:
    half = cluster.flags_with("--parallelism=2")
    flags = [format_flags(few_notes), format_flags(few_notes, section_rules="published")]
    alone = [tmp_path / "alone-0", tmp_path / "alone-1"]
    out = [tmp_path / "out-0", tmp_path / "out-1"]
    for number in (0, 1):
        assert_success(run_program(FORMAT_NOTES, output_dir=alone[number], **flags[number]))
    with (
        at_work(FORMAT_NOTES, output_dir=out[0], **flags[0], **half) as first,
        at_work(FORMAT_NOTES, output_dir=out[1], **flags[1], **half) as second,
    ):
        ends = [program.communicate(timeout=HANG_SECONDS) for program in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], ends
    for number in (0, 1):
        assert folder_bytes(out[number]) == folder_bytes(alone[number])


def test_an_option_that_nobody_knows(tmp_path: Path, cluster: Cluster, few_notes: str) -> None:
    result = run_program(
        FORMAT_NOTES, output_dir=tmp_path / "out", **format_flags(few_notes),
        **cluster.flags_with("--paralellism=4"),
    )  # fmt: skip
    print(result.stderr)
    assert_one_line_error(result, 2, "--paralellism", "did you mean --parallelism?")


def test_too_few_slots(tmp_path: Path, cluster: Cluster, few_notes: str) -> None:
    # Flink waits for minutes in case that slots turn up; the program says meanwhile where to look.
    out = tmp_path / "out"
    flags = {**format_flags(few_notes), **cluster.flags_with("--parallelism=64")}
    with at_work(FORMAT_NOTES, output_dir=out, **flags) as program:
        assert program.stdout is not None
        print(next(line for line in program.stdout if "No worker has begun after 60 s" in line))
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=HANG_SECONDS)
    assert cluster.running_jobs() == []


class TestWithoutRestarts:
    """A cluster that gives up at once."""

    @pytest.fixture(scope="class")
    def cluster(
        self, nodes: Network, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Cluster]:
        folder = tmp_path_factory.mktemp("flink")
        for node in nodes.nodes:
            node.kill()
        with engines.flink(nodes, folder, restarts=False) as made:
            yield made

    def test_no_pool(self, tmp_path: Path, cluster: Cluster, few_notes: str) -> None:
        flags = {
            **format_flags(few_notes),
            **cluster.flags_with("--environment_config=localhost:50007"),
        }
        result = run_program(FORMAT_NOTES, output_dir=tmp_path / "out", **flags)
        print(result.stderr)
        assert_one_line_error(result, 1, "refused a connection", "bert-clinical-worker-pool")

    def test_no_docker(self, tmp_path: Path, cluster: Cluster, few_notes: str) -> None:
        flags = {
            **format_flags(few_notes),
            **cluster.flags_with("--environment_type=DOCKER --environment_config=no-such-image"),
        }
        result = run_program(FORMAT_NOTES, output_dir=tmp_path / "out", **flags)
        print(result.stderr)
        assert_one_line_error(result, 1, "Docker")

    @pytest.mark.parametrize(
        ("lost", "told"),
        [("worker", "a worker ended while it worked"), ("node", "lost a task manager")],
    )
    def test_what_is_lost_fails_the_job(
        self, tmp_path: Path, cluster: Cluster, many_notes: str, lost: str, told: str
    ) -> None:
        out = tmp_path / "out"
        flags = format_flags(many_notes, deduplicate="none")
        node = cluster.workers[1]
        with at_work(FORMAT_NOTES, output_dir=out, **flags, **cluster.flags) as program:
            wait_for("notes are formatted", lambda: formatted_notes(out), program)
            if lost == "worker":
                # One alone may have done its part of the work.
                kill_workers(cluster.workers)
            else:
                node.kill()
            said, error = program.communicate(timeout=HANG_SECONDS)
        print(error)
        assert program.returncode == 1, said
        assert len(error.splitlines()) == 1
        assert told in error
        assert "restart-strategy" in error
        assert_says_nothing_of_notes(said, error)
        assert not list(out.iterdir())


class TestWithLittleNetworkMemory:
    """A cluster that gives up at once, with a quarter of the network memory that a slot needs."""

    @pytest.fixture(scope="class")
    def cluster(
        self, nodes: Network, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[Cluster]:
        folder = tmp_path_factory.mktemp("flink")
        for node in nodes.nodes:
            node.kill()
        with engines.flink(nodes, folder, restarts=False, network_memory="16m") as made:
            yield made

    def test_too_few_network_buffers(
        self, tmp_path: Path, cluster: Cluster, few_notes: str
    ) -> None:
        flags = {**format_flags(few_notes), **cluster.flags}
        result = run_program(FORMAT_NOTES, output_dir=tmp_path / "out", **flags)
        print(result.stderr)
        assert_one_line_error(result, 1, "too few network buffers", "available", "64 MB a slot")
