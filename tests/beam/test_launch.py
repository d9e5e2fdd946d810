"""What is said of a pipeline: before it has read a note everything, then no more than is safe."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import sys
import threading
from pathlib import Path

import pytest

from tests.beam_pipelines import free_port
from tests.format_notes_program import PLANTED, RULES, made_up_notes, run, write_notes

pytest.importorskip("apache_beam", reason="Apache Beam is not installed")

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from data_prep.beam import failures as beam_failures
from data_prep.beam import flags as beam_flags
from data_prep.beam import flink as beam_flink
from data_prep.beam import launcher as beam_launcher
from data_prep.beam import options as beam_options
from data_prep.beam import progress as beam_progress
from data_prep.common import files as beam_files
from data_prep.common.errors import UserError

OF_SEVEN = beam_progress.Phase("notes", "words", 7)

# Stands for an address where nobody listens.
NOBODY = "NOBODY"


@pytest.mark.parametrize(
    ("runner", "options", "fragments"),
    [
        ("PortableRunner", "", ["You must specify a --job_endpoint"]),
        (
            "FlinkRunner",
            f"--flink_master={NOBODY} --flink_job_server_jar=http://{NOBODY}/no.jar",
            [f"http://{NOBODY}/no.jar"],
        ),
        (
            "FlinkRunner",
            f"--flink_master={NOBODY} --flink_job_server_jar=no.jar",
            ["no.jar", "make sure the file exists"],
        ),
        ("DataflowRunner", "", ["DataflowRunner did not take the job"]),
        (
            "PortableRunner", f"--job_endpoint={NOBODY} --job_server_timeout=2",
            [f"--job_endpoint={NOBODY}: no job server answered in 2 s", "(--job_server_timeout)"],
        ),
    ],
)  # fmt: skip
def test_what_fails_before_a_job_is_taken_is_told(
    tmp_path: Path, capfd, runner: str, options: str, fragments: list[str]
) -> None:
    nobody = f"localhost:{free_port()}"
    source = write_notes(tmp_path / "n.csv", made_up_notes(3))
    status, out, err = run(
        capfd, input_file=source, output_dir=tmp_path / "out", **RULES,
        runner=runner, pipeline_options=options.replace(NOBODY, nobody),
    )  # fmt: skip
    assert status == 1, err
    assert len(err.splitlines()) == 1, err
    assert "withheld" not in err
    for fragment in fragments:
        assert fragment.replace(NOBODY, nobody) in err
    assert PLANTED not in out + err
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ([], 45),
        (["--job_endpoint=a:1", "--job_server_timeout=600"], 600),
        (["--job-server-timeout", "1"], 1),
        # Beam's default.
        (["--job_server_timeout=300"], 300),
    ],
)
def test_a_job_server_has_as_long_as_is_said(options: list[str], seconds: float) -> None:
    assert beam_options.seconds_for_job_server(options) == seconds


@pytest.mark.parametrize(
    ("message", "fragments"),
    [
        (
            "java.io.IOException: Insufficient number of network buffers: required 512, but only "
            "321 available. The total number of network buffers is currently set to 6144",
            ["512 required, 321 available", "64 MB a slot"],
        ),
        (
            "NoResourceAvailableException: Could not acquire the minimum required resources.",
            ["too few slots", "--parallelism"],
        ),
        ("java.util.concurrent.TimeoutException: The heartbeat of TaskManager with id "
         "10.0.0.3:41-5a timed out.", ["lost a task manager", "restart-strategy"]),
        ("org.apache.spark.SparkException: Job aborted due to stage failure: ExecutorLostFailure "
         "(executor 1 exited caused by one of the running tasks)", ["a task manager or an exe"]),
        ("Executor lost: Container from a bad node. Exit status: 137", ["memory runs out"]),
        ("java.io.IOException: The record exceeds the maximum size of a sort buffer (current "
         "maximum: 8323072 bytes).", ["8,323,072 bytes", "--num_shards", "managed.size"]),
        ("java.io.IOException: No space left on device", ["disk of the cluster is full"]),
        ("java.lang.OutOfMemoryError: Java heap space", ["ran out of memory"]),
        ("java.io.InvalidClassException: local class incompatible: serialVersionUID = 1",
         ["different versions"]),
        ('java.io.IOException: Cannot run program "docker": error=2', ["no Docker", "EXTERNAL"]),
        ("java.net.ConnectException: finishConnect(..) failed: Connection refused",
         ["refused a connection", "bert-clinical-worker-pool"]),
        ("JobSubmissionException: Failed to submit JobGraph.", ["could not hand the job"]),
        ("java.util.concurrent.TimeoutException: No client connected within timeout",
         ["no worker connected", "bert-clinical-worker-pool", "--environment_config"]),
        ("java.lang.IllegalStateException: SDK Harness 1-1 is gone",
         ["a worker ended while it worked", "restart-strategy"]),
    ],
)  # fmt: skip
def test_known_kinds_are_told_by_name_and_number(message: str, fragments: list[str]) -> None:
    told = beam_failures.known_kind(f"{PLANTED} was\n{message}\nthen {PLANTED}")
    assert told is not None
    assert PLANTED not in told
    for fragment in fragments:
        assert fragment in told


def test_anything_else_is_withheld_with_a_place_to_look() -> None:
    assert beam_failures.known_kind(f"ValueError: the note of {PLANTED} was strange") is None
    place = beam_failures.where_engine_logs("PortableRunner", "host:8099")
    assert "the job server at host:8099" in place
    assert "Flink's task managers" in beam_failures.where_engine_logs("FlinkRunner", None)
    assert beam_failures.withheld("It failed", place).endswith(f"look {place}")


def test_a_job_that_was_taken_is_named_and_no_word_of_it_is_told(monkeypatch) -> None:
    # There is no parent here, for want of which a launcher would end its process.
    monkeypatch.setattr(beam_launcher._Launcher, "_listen", lambda self: None)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    launcher = beam_launcher._Launcher(multiprocessing.Pipe()[0])
    launcher._runner, launcher._submits, launcher._is_taken = "FlinkRunner", True, True
    launcher._job = "job-1234_5678"
    launcher._where_to_look = beam_failures.where_engine_logs("FlinkRunner", None)
    cause = ValueError(f"the note of {PLANTED} was strange")
    error = RuntimeError(f"Pipeline failed: {PLANTED}")
    error.__cause__ = cause
    told = launcher.told(error)
    assert told.startswith("FlinkRunner failed at the job job-1234_5678 with RuntimeError")
    assert "withheld" in told
    assert "Flink's task managers" in told
    assert PLANTED not in told
    error.__cause__ = OSError(f"{PLANTED}: No space left on device")
    told = launcher.told(error)
    assert "a disk of the cluster is full" in told
    assert "job-1234_5678" in told
    assert PLANTED not in told


def test_pools_are_told_the_versions_and_keep_their_own_parameters() -> None:
    config = json.dumps({"url": "h:1", "params": {"a": "b"}})
    options = beam_flags.split_options(
        f"--environment_type=EXTERNAL --environment_config='{config}'"
    )
    completed = beam_options.completed(beam_options.parse(options)).view_as(PortableOptions)
    config = json.loads(completed.environment_config)
    assert config["url"] == "h:1"
    assert config["params"]["a"] == "b"
    assert json.loads(config["params"]["bert_clinical_versions"])["apache-beam"].startswith("2.")
    where = beam_options.where_workers_come_from(completed, "there")
    assert "h:1" in where
    assert where.endswith("there")
    docker = PipelineOptions(["--environment_type=DOCKER", "--environment_config=image"])
    kept = beam_options.completed(docker).view_as(PortableOptions)
    assert kept.environment_config == "image"


@pytest.mark.parametrize(
    ("master", "address"),
    [(None, None), ("[auto]", None), ("h:8081", "http://h:8081"), ("https://h", "https://h")],
)
def test_flinks_own_interface(master: str | None, address: str | None) -> None:
    assert beam_flink.address(master) == address


@pytest.fixture
def said(monkeypatch, caplog) -> pytest.LogCaptureFixture:
    """Whatever a program says of its workers, without waiting for the next time to look."""
    caplog.set_level(logging.INFO, "data_prep")
    monkeypatch.setattr(beam_progress, "_SECONDS_BETWEEN_LOOKS", {False: 0.0, True: 0.0})
    monkeypatch.setattr(beam_progress, "_SECONDS_BETWEEN_WRITES", 0.0)
    return caplog


def test_while_no_worker_begins_the_program_says_where_to_look(
    tmp_path: Path, monkeypatch, said
) -> None:
    with beam_progress.Watch(str(tmp_path), lambda: OF_SEVEN) as watch:
        watch.look("there")
        assert said.messages == []
        monkeypatch.setattr(beam_progress, "_SECONDS_WITHOUT_WORKER", -1.0)
        watch.look("there")
        watch.look("there")
        assert len(said.messages) == 1
        assert said.messages[0].startswith("No worker has begun")
        assert said.messages[0].endswith("Look there")


def test_progress_is_the_sum_of_the_workers_counters(tmp_path: Path, said) -> None:
    # A process has one set of counters; each of these is another process's.
    beam_progress._Counters(str(tmp_path)).add({"notes": 5})
    phases = [beam_progress.Phase("rows", "rows", None), *[OF_SEVEN] * 3]
    with beam_progress.Watch(
        str(tmp_path), iter(phases).__next__, seconds_between_lines=0.0
    ) as watch:
        first, second = (beam_progress._Counters(str(tmp_path)) for _ in range(2))
        first.add({"rows": 4})
        second.add({"rows": 5})
        watch.look("there")
        watch.look("there")
        first.add({"notes": 1, "words": 100})
        second.add({"notes": 2, "words": 200})
        watch.look("there")
        second.add({"notes": 100})
        watch.look("there")
    assert ": 9 rows" in said.messages[0]
    assert said.messages[1].endswith(": 0 of 7 notes, 0 words/s")
    assert "3 of 7 notes" in said.messages[2]
    assert said.messages[2].endswith(" left")
    assert "7 of 7 notes" in said.messages[3]


def test_a_terminal_gets_a_bar(tmp_path: Path, monkeypatch, said) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with beam_progress.Watch(str(tmp_path), lambda: OF_SEVEN) as watch:
        beam_progress._Counters(str(tmp_path)).add({"notes": 3, "words": 100})
        watch.look("there")
    assert "workers:" in terminal.getvalue()
    assert "3/7" in terminal.getvalue()
    assert "words/s" in terminal.getvalue()
    assert said.messages == []


def test_a_worker_without_the_folder_of_the_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all workers and this program reach under the same path"):
        beam_progress.begin(str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError), beam_files.create(str(tmp_path / "elsewhere" / "f")):
        pass
    assert not list(tmp_path.iterdir())
