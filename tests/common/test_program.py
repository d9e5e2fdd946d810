"""The harness of the programs: exit statuses, errors of one line, help, nothing of a note shown."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from absl import flags

import bert_clinical
from data_prep.common import atomic_files, program, progress
from data_prep.common.errors import Terminated, UsageError, UserError
from tests.running import HANG_SECONDS, ROOT

PLANTED = "zebrafinch"


def define_flags(values: program.ProgramFlags) -> None:
    values.section("As in the original")
    flags.DEFINE_string("input_file", None, "What to read.", flag_values=values)
    flags.DEFINE_integer("count", 3, "How many.", lower_bound=1, flag_values=values)
    flags.DEFINE_string("output_file", "out", "Where to.", flag_values=values)
    flags.DEFINE_integer("batch_size", 8, "How many at once.", flag_values=values)
    values.section("Ours")
    flags.DEFINE_bool("quick", False, "Whether to hurry.", flag_values=values)
    flags.DEFINE_enum("kind", "red", ["red", "blue"], "Which.", flag_values=values)
    values.require("input_file", "output_file")


def run(main, *argv: str) -> int:
    return program.run_to_exit_status("Does a thing.", define_flags, main, argv)


def raising(error: BaseException):
    def main(values: program.ProgramFlags) -> None:
        raise error

    return main


def test_success_is_zero_and_main_sees_the_flags() -> None:
    seen = {}

    def main(values: program.ProgramFlags) -> None:
        seen.update(values.as_dict())

    assert run(main, "--input_file=a", "--count=5", "--quick") == 0
    assert seen == {
        "input_file": "a",
        "output_file": "out",
        "count": 5,
        "quick": True,
        "kind": "red",
        "batch_size": 8,
    }


@pytest.mark.parametrize(
    ("argv", "fragment"),
    [
        (
            ["--input_file=a", "--cuont=5"],
            "--cuont at place 2 is no flag of this program; did",
        ),
        (["--input_file=a", "--noqick"], "did you mean --noquick?"),
        (["--input_file=a", "--no_such_flag=5"], "--no_such_flag at place 2 is no flag"),
        (["--input_file=The", f"-{PLANTED}", "was"], "what stands at place 2 is no flag"),
        (["--input_file=The", f"--{PLANTED}=x"], "what stands at place 2 is no flag"),
        (["--input_file=a", f"--count={PLANTED}"], "--count: expected a positive integer, found"),
        (["--input_file=a", f"--count={2**63}"], "--count: expected a whole number of at most 64"),
        (["--input_file=a\udcff"], "the argument at place 1 is not UTF-8; rename the file"),
        (["--input_file=a", "--count=0"], "--count: expected a positive integer, found"),
        (["--input_file=a", "--count"], "--count: expected a positive integer, found none"),
        (["--input_file=a", f"--kind={PLANTED}"], "--kind: expected one of red, blue, found"),
        (["--input_file=a", f"--quick={PLANTED}"], "--quick: expected true or false, found"),
        (["--input_file=a", f"--noquick={PLANTED}"], "--quick: expected true or false, found"),
        ([f"--flagfile=/no/{PLANTED[:0]}where"], "--flagfile: the file cannot be opened"),
        ([], "error: --input_file is missing;"),
        (["--output_file="], "--input_file is missing"),
        (
            ["--input_file=a", PLANTED],
            "1 argument(s) that belong to no flag, the first at place 2;",
        ),
    ],
)
def test_command_line_mistakes_are_one_line_and_two(argv, fragment, capsys) -> None:
    def main(values: program.ProgramFlags) -> None:
        raise AssertionError("main must not be reached")

    assert run(main, *argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    assert fragment in shown.err
    assert PLANTED not in shown.err


def test_all_missing_flags_are_one_line(capsys) -> None:
    def define(values: program.ProgramFlags) -> None:
        for name in ("a", "b", "c", "d"):
            flags.DEFINE_string(name, None, "A name.", flag_values=values)
        values.require("a", "b", "c")

    assert program.run_to_exit_status("", define, raising(AssertionError()), ["--d=1"]) == 2
    assert "error: --a, --b and --c are missing; --help" in capsys.readouterr().err
    assert program.run_to_exit_status("", define, raising(AssertionError()), ["--b=1"]) == 2
    assert "error: --a and --c are missing;" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [f"--{PLANTED}", f"--count={PLANTED}", f"The {PLANTED} was fine", f"- {PLANTED}",
     f"\xff{PLANTED}", f"--noquick={PLANTED}", f"--{PLANTED}_{PLANTED}=1", f"--flagfile={PLANTED}"],
)  # fmt: skip
def test_notes_named_as_a_file_of_flags_are_not_shown(line, tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text(f"{line}\n", encoding="latin-1")
    argv = ["--input_file=a", f"--flagfile={tmp_path / 'notes.txt'}"]
    assert run(raising(AssertionError()), *argv) == 2
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1
    assert PLANTED not in shown.err + shown.out


def test_the_version_is_told(capsys) -> None:
    assert run(raising(AssertionError()), "--version") == 0
    assert capsys.readouterr().out == f"bert-clinical {bert_clinical.__version__}\n"


def signalled(number: int, *, then: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a program to which a signal comes, with the clauses that follow a `try` around it."""
    code = f"""
import os, pathlib, signal
from data_prep.common import program
def main(values):
    try:
        os.kill(os.getpid(), {int(number)})
        while True:
            pass
{textwrap.indent(textwrap.dedent(then), "    ")}
signal.signal(signal.SIGINT, signal.default_int_handler)
{before}
program.run("", lambda values: None, main, [])
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("name", ["TERM", "HUP", "USR1", "USR2", "INT"])
def test_a_signal_ends_a_program_tidied_up(name: str, tmp_path: Path) -> None:
    number = signal.Signals[f"SIG{name}"]
    tidying = f"""
        finally:
            for again in {int(number)}, {int(signal.SIGTERM)}, {int(signal.SIGINT)}:
                os.kill(os.getpid(), again)
            pathlib.Path({str(tmp_path / "tidied")!r}).touch()
    """
    ended = signalled(number, then=tidying)
    assert ended.returncode == 128 + number
    told = "interrupted" if name == "INT" else "terminated"
    assert ended.stderr.endswith(f"error: {told}\n") and len(ended.stderr.splitlines()) == 1
    assert (tmp_path / "tidied").exists()


@pytest.mark.parametrize(("name", "told"), [("TERM", "terminated"), ("INT", "interrupted")])
@pytest.mark.parametrize("seconds", [5.0, 0.0])
def test_a_signal_stays_one_whatever_a_library_makes_of_it(
    name: str, told: str, seconds: float
) -> None:
    """As NumPy does, with no word of what it was; but not for all that comes later."""
    number = signal.Signals[f"SIG{name}"]
    other = f"""
        except BaseException:
            raise TypeError({PLANTED!r}) from None
    """
    within = f"program._SECONDS_TO_TIDY_UP = {seconds}"
    ended = signalled(number, then=other, before=within)
    assert ended.returncode == (128 + number if seconds else 1)
    assert len(ended.stderr.splitlines()) == 1 and PLANTED not in ended.stderr
    assert (f"error: {told}" if seconds else "unexpected TypeError") in ended.stderr


@pytest.mark.parametrize(
    ("error", "status", "fragment"),
    [
        (UserError("notes.csv row 7: found\n12 fields"), 1, "row 7: found 12 fields"),
        (UsageError("--a and --b exclude each other"), 2, "--a and --b"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out.txt"), 1, "out.txt: No space left"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Terminated(signal.SIGUSR1), 138, "terminated"),
        (KeyError(PLANTED), 1, "unexpected KeyError (program.py:"),
        (MemoryError(PLANTED), 1, "out of memory; lower --batch_size, or use a machine with more"),
        (OSError(errno.ENAMETOOLONG, "Name too long", "o"), 1, "o: Name too long; choose a short"),
        (OSError(errno.EFBIG, "File too large", "o"), 1, "o: File too large; raise the limit on"),
        (UnicodeDecodeError("utf-8", PLANTED.encode(), 0, 1, "bad"), 1, "UnicodeDecodeError"),
    ],
)
def test_errors_are_one_line_without_text(error, status, fragment, capsys) -> None:
    assert run(raising(error), "--input_file=a") == status
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1
    assert fragment in shown.err
    assert PLANTED not in shown.err + shown.out


def test_an_interrupt_inside_exec_ends_with_130_too() -> None:
    script = (
        "from data_prep.common import program\n"
        "program.run('', lambda flags: None, lambda flags: exec('raise KeyboardInterrupt'), [])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 130, result.stderr


def test_help_lists_flags_under_their_sections_in_order(capsys) -> None:
    assert run(raising(AssertionError()), "--help") == 0
    shown = capsys.readouterr().out
    parts = [
        "Does a thing.",
        "As in the original:",
        "--input_file",
        "--count",
        "Ours:",
        "--[no]quick",
    ]
    assert [shown.index(part) for part in parts] == sorted(shown.index(part) for part in parts)
    assert "(default: 3)" in shown


def test_help_into_a_pipe_that_nobody_reads_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        result = subprocess.run(
            [sys.executable, "-m", "data_prep.format_notes", "--help"],
            stdout=nobody, stderr=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
    assert result.stderr == b""


def test_a_terminated_program_tidies_up(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from data_prep.common import atomic_files, program\n"
        "def main(values):\n"
        "    with atomic_files.atomic_write(sys.argv[1], 'w') as stream:\n"
        "        stream.write('half')\n"
        "        print('writing', flush=True)\n"
        f"        time.sleep({2 * HANG_SECONDS})\n"
        "program.run('', lambda values: None, main, [])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert list(tmp_path.iterdir())
    process.terminate()
    _, said = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 143
    assert len(said.splitlines()) == 1
    assert "terminated" in said
    assert not list(tmp_path.iterdir())


def test_flags_can_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "flags").write_text("--input_file=a\n--count=9\n")
    seen = {}

    def main(values: program.ProgramFlags) -> None:
        seen.update(values.as_dict())

    assert run(main, f"--flagfile={tmp_path / 'flags'}") == 0
    assert seen["count"] == 9


def test_information_goes_to_standard_output_and_warnings_to_standard_error(capsys) -> None:
    def main(values: program.ProgramFlags) -> None:
        logging.getLogger("data_prep.some_room").info("read 3 notes")
        logging.getLogger("data_prep.some_room").warning("2 rows skipped")
        logging.getLogger("some_library").info("chatter")

    assert run(main, "--input_file=a") == 0
    shown = capsys.readouterr()
    assert shown.out == "read 3 notes\n"
    assert shown.err == "2 rows skipped\n"


def test_a_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    with atomic_files.atomic_write(path, "w") as stream:
        stream.write("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    with pytest.raises(RuntimeError), atomic_files.atomic_write(path, "w") as stream:
        stream.write("half")
        raise RuntimeError
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_progress_writes_plain_lines_where_there_is_no_terminal(caplog) -> None:
    caplog.set_level(logging.INFO, logger="data_prep")
    with progress.Progress(
        "work", "notes", total=4, rate_unit="words", seconds_between_lines=0
    ) as p:
        p.advance(1, rate=100)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("work: 1 of 4 notes, ")
    assert " words/s, " in caplog.messages[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (600, "10 min"), (12_000, "3 h 20 min"), (1_500_000, "17 d 8 h")],
)
def test_durations_read_as_a_person_says_them(seconds: float, text: str) -> None:
    assert progress.format_seconds(seconds) == text


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-", "2>/dev/full"])
@pytest.mark.parametrize("mistake", [False, True])
def test_standard_streams_may_be_closed(closed: str, mistake: bool, tmp_path: Path) -> None:
    code = (
        "import os, subprocess, sys\n"
        "from data_prep.common import atomic_files, program, progress\n"
        "from data_prep.common.errors import UserError\n"
        "def main(values):\n"
        f"    with atomic_files.atomic_write({str(tmp_path / 'out')!r}, 'w') as stream:\n"
        "        assert stream.fileno() > 2\n"
        "        os.write(1, b'chatter')\n"
        "        with progress.Progress('work', 'notes'):\n"
        "            stream.write('whole')\n"
        "        other = [sys.executable, '-c', 'import sys; sys.stderr.flush()']\n"
        "        subprocess.run(other, check=True)\n"
        f"    if {mistake}:\n"
        "        raise UserError('a mistake')\n"
        "program.run('', lambda values: None, main, [])\n"
    )
    command = ["bash", "-c", f'"$0" -c "$1" {closed}', sys.executable, code]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == mistake
    assert (tmp_path / "out").read_text() == "whole"
    assert not ended.stderr.replace(": error: a mistake\n", "").removeprefix("__main__")
