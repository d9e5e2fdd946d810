"""create_pretraining_data as its users run it: outputs, shards, mistakes, interruptions."""

import gzip
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bert_clinical.instances.shards import STAGING_NAME
from bert_clinical.tfrecords.sidecars import read_sidecar, sidecar_path
from bert_clinical.tokenization import load_vocab
from data_prep.common import atomic_files
from data_prep.common.errors import UserError
from tests import full_disk
from tests.golden_data import golden
from tests.instances.test_maker import GOLDEN_RUNS
from tests.running import (
    HANG_SECONDS,
    ROOT,
    arguments,
    assert_one_line_error,
    assert_success,
    run_here,
    run_program,
    wait_until,
)
from tests.tfrecord_files import read_examples, read_records

MODULE = "bert_clinical.create_pretraining_data"
PLANTED = "Zanzibarquux"


def run(**flags):
    return run_program(MODULE, **flags)


def start(**flags):
    return subprocess.Popen(
        [sys.executable, "-m", MODULE, *arguments(**flags)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def workers_of(process):
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if is_worker(pid)]


def is_worker(pid):
    """Tells whether a process is a worker at work: one that has ended has no command any more."""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Five texts of different sizes, one gzip."""
    folder = tmp_path_factory.mktemp("text")
    documents = golden("sentences_en_core_web_sm.txt").read_text().split("\n\n")
    for number, size in enumerate((2, 9, 1, 5)):
        text = "\n\n".join(documents[number * 2 : number * 2 + size]) + "\n"
        (folder / f"part-{number}.txt").write_text(text)
    with gzip.open(folder / "part-4.txt.gz", "wt") as stream:
        stream.write("\n\n".join(documents[20:]) + "\n")
    return folder


@pytest.fixture
def small():
    return {"vocab_file": golden("vocab_cased.txt"), "do_lower_case": "false", "dupe_factor": 2}


def test_golden_run(tmp_path):
    flags = dict(GOLDEN_RUNS["wwm_128"])
    output = tmp_path / "new" / "folder" / flags["output_file"]
    result = run(
        **{**flags, "input_file": golden(flags["input_file"]), "output_file": output,
           "vocab_file": golden(flags["vocab_file"])}
    )  # fmt: skip
    assert_success(result)
    assert result.stderr == ""
    assert read_examples(output) == read_examples(golden(flags["output_file"]))
    assert names(output.parent) == ["wwm_128.tfrecord", "wwm_128.tfrecord.json"]


def test_globs_and_gzip_in_and_out(tmp_path):
    flags = dict(GOLDEN_RUNS["two_in_three_out"])
    for name in flags["input_file"].split(","):
        with gzip.open(tmp_path / f"{name}.gz", "wb") as stream:
            stream.write(golden(name).read_bytes())
    outputs = [tmp_path / f"{name}.gz" for name in flags["output_file"].split(",")]
    result = run(
        **{**flags, "input_file": f"{tmp_path}/part_[a-b].txt.gz",
           "output_file": ",".join(map(str, outputs)), "vocab_file": golden(flags["vocab_file"])}
    )  # fmt: skip
    assert_success(result)
    for output in outputs:
        assert output.read_bytes()[:2] == b"\x1f\x8b"
        expected = read_examples(golden(output.name.removesuffix(".gz")))
        assert read_examples(output) == expected
        recorded = read_sidecar(output)["outputs"]
        assert recorded == [atomic_files.fingerprint(path) for path in outputs]


def test_spaces_behind_commas_belong_to_no_output(tmp_path, capsys, small):
    (tmp_path / "a.txt").write_text("one two\nthree four\nfive six\n\n" * 3)
    outputs = [tmp_path / "x" / "a.tfrecord", tmp_path / "y" / "b.tfrecord"]
    result = run_here(
        capsys, MODULE, input_file=tmp_path / "a.txt", output_file=" , ".join(map(str, outputs)),
        **small,
    )  # fmt: skip
    assert_success(result)
    assert all(path.is_file() for path in outputs)


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("one two\n\nthree four\n\nfive six\n\n", ["100% of the next sentences are random"]),
        ("one two\nthree four\nfive six\n", ["the input holds one document only"]),
        (
            "one two\nthree four\nfive\nsix\n\none\ntwo\nthree\nfour\nfive\n\n",
            [],
        ),
    ],
    ids=["blank lines everywhere", "blank lines nowhere", "blank lines after notes"],
)
def test_text_that_teaches_no_next_sentences(tmp_path, capsys, small, text, fragments):
    (tmp_path / "a.txt").write_text(text)
    result = run_here(
        capsys, MODULE, input_file=tmp_path / "a.txt", output_file=tmp_path / "a.tfrecord",
        report_file=tmp_path / "report.html", **small,
    )  # fmt: skip
    assert_success(result)
    lines = result.stderr.splitlines()
    assert len(lines) == len(fragments)
    for line, fragment in zip(lines, fragments, strict=True):
        assert fragment in line
    counts = read_sidecar(tmp_path / "a.tfrecord")["counts"]
    share = f"{100 * counts['random_next'] / counts['instances']:.1f}%"
    assert f"{share} with a random next sentence" in result.stdout
    page = (tmp_path / "report.html").read_text()
    assert "random next" in page
    assert share in page


def test_sidecar_counts(tmp_path, small):
    output = tmp_path / "a.tfrecord"
    text = golden("part_a.txt")
    assert_success(run(input_file=text, output_file=output, masked_lm_prob=0.2, **small))
    sidecar = read_sidecar(output)
    flags = sidecar["flags"]
    assert {name: flags[name] for name in ("do_lower_case", "dupe_factor", "masked_lm_prob")} == {
        "do_lower_case": False, "dupe_factor": 2, "masked_lm_prob": 0.2,
    }  # fmt: skip
    assert sidecar["vocabulary"]["entries"] == 1000
    assert len(sidecar["vocabulary"]["sha256"]) == len(sidecar["inputs"][0]["sha256"]) == 64
    counts = sidecar["counts"]
    lines = text.read_text().splitlines()
    assert counts["sentences"] == sum(1 for line in lines if line.strip())
    assert counts["words"] == sum(len(line.split()) for line in lines)
    examples = read_examples(output)
    assert counts["instances"] == len(examples)
    assert counts["random_next"] == sum(e["next_sentence_labels"][0] for e in examples)
    assert counts["masked_wordpieces"] == sum(sum(e["masked_lm_weights"]) for e in examples)
    used = [sum(example["input_mask"]) for example in examples]
    assert sidecar["shares"]["padding"] == pytest.approx(1 - sum(used) / len(used) / 128)
    for length, count in sidecar["sequence_lengths"].items():
        assert used.count(int(length)) == count
    assert sum(sidecar["sequence_lengths"].values()) == len(examples)


def test_no_passes_and_no_predictions_are_googles_to_accept(tmp_path, small):
    outputs = [tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"]
    flags = {**small, "input_file": golden("part_a.txt")}
    result = run(**{**flags, "output_file": ",".join(map(str, outputs)), "dupe_factor": 0,
                    "report_file": tmp_path / "report.html"})  # fmt: skip
    assert_success(result)
    assert [path.stat().st_size for path in outputs] == [0, 0]
    assert read_sidecar(outputs[0])["counts"]["instances"] == 0
    assert_success(run(**flags, output_file=outputs[0], max_predictions_per_seq=0))
    (record, *others) = read_records(outputs[0])
    assert len(others) > 20
    from bert_clinical.nn.tensorflow import tf

    message = tf.train.Example.FromString(record)
    feature = message.features.feature
    assert len(feature["input_ids"].int64_list.value) == 128
    assert feature["masked_lm_ids"].SerializeToString() == b"\x1a\0"
    assert feature["masked_lm_weights"].SerializeToString() == b"\x12\0"
    mask = load_vocab(small["vocab_file"])["[MASK]"]
    assert mask not in feature["input_ids"].int64_list.value
    assert len(record) == message.ByteSize()


def test_more_outputs_than_examples_and_what_lies_beside_text(tmp_path, small):
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.txt").write_text("The patient was seen .\nShe was well .\n\nHe went home .\n")
    for name in ("empty-1.txt", "empty-2.txt"):
        (text / name).touch()
    (text / "manifest.json").write_text("{}")
    (text / "data_report.html").write_text("<!doctype html>")
    outputs = [tmp_path / f"{number}.tfrecord" for number in range(9)]
    result = run(**small, input_file=f"{text}/*", output_file=",".join(map(str, outputs)))
    assert_success(result)
    assert "passed over 2 file(s) or folder(s) that this project" in result.stdout
    assert "passed over 2 empty file(s)" in result.stdout
    description = read_sidecar(outputs[0])
    assert [Path(entry["path"]).name for entry in description["inputs"]] == ["a.txt"]
    assert description["counts"]["instances"] < 9
    result = run(**small, input_file=text, output_dir=tmp_path / "shards")
    assert_success(result)
    assert names(tmp_path / "shards") == ["a.tfrecord", "a.tfrecord.json"]


def test_stats_only_writes_nothing(tmp_path, small):
    result = run_program(
        MODULE, "--stats_only", input_file=golden("part_a.txt"),
        output_file=tmp_path / "no" / "a.tfrecord", **small,
    )  # fmt: skip
    assert_success(result)
    assert "documents" in result.stdout
    assert "[UNK]" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_and_flags_need_no_heavy_import():
    heavy = "{'numba', 'tensorflow', 'spacy', 'pandas', 'numpy', 'tokenizers'}"
    code = (
        "import sys; from data_prep.common import program; from bert_clinical import "
        "create_pretraining_data as p; program.run_to_exit_status(p.__doc__, p.define_flags, "
        f"p.main, ['--help']); print({heavy} & set(sys.modules) or 'light')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.endswith("light\n"), result.stderr
    assert result.stdout.index("As in Google's program:") < result.stdout.index("--output_dir")


def test_shards_are_those_of_single_runs_whatever_the_workers(tmp_path, shards, small):
    for workers in (1, 2):
        result = run(
            input_file=f"{shards}/part-*", output_dir=tmp_path / str(workers),
            num_workers=workers, **small,
        )  # fmt: skip
        assert_success(result)
    made = names(tmp_path / "1")
    assert [name for name in made if name.endswith(".tfrecord")] == [
        f"part-{number}.tfrecord" for number in range(5)
    ]
    for name in made:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    for name in ("part-1.txt", "part-4.txt.gz"):
        alone = tmp_path / "alone.tfrecord"
        assert_success(run(input_file=shards / name, output_file=alone, **small))
        shard = tmp_path / "1" / f"{name.split('.')[0]}.tfrecord"
        assert alone.read_bytes() == shard.read_bytes()


def test_started_again_only_what_is_missing_is_made(tmp_path, shards, small):
    flags = {"input_file": f"{shards}/part-*", "output_dir": tmp_path, **small}
    assert_success(run(**flags))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    times = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "part-1.tfrecord").unlink()
    (tmp_path / "part-3.tfrecord.json").unlink()
    result = run(**flags)
    assert_success(result)
    assert "3 of 5 shards are there already" in result.stdout
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    made = {p.name for p in tmp_path.iterdir() if p.stat().st_mtime_ns != times[p.name]}
    assert {name.split(".")[0] for name in made} == {"part-1", "part-3"}

    assert_one_line_error(
        run(**{**flags, "dupe_factor": 3}), 1, "part-0.tfrecord", "dupe_factor (2, now 3)"
    )
    assert_one_line_error(
        run(**{**flags, "vocab_file": golden("vocab_uncased.txt"), "do_lower_case": "true"}),
        1, "do_lower_case (False, now True)", "the vocabulary",
    )  # fmt: skip
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("workers", [1, 2])
def test_failing_shard_is_named_and_leaves_the_others(workers, tmp_path, shards, small):
    text = tmp_path / "text"
    shutil.copytree(shards, text)
    (text / "part-2.txt").write_bytes(b"fine\n" + PLANTED.encode() + b"\xff\n")
    (text / "part-3.txt").write_text("\n\n")
    output = tmp_path / "out"
    result = run(input_file=f"{text}/part-*", output_dir=output, num_workers=workers, **small)
    assert_one_line_error(result, 1, "2 of 5", "part-2.txt, line 2: not UTF-8", "part-3.txt")
    assert PLANTED not in result.stdout + result.stderr
    made = [name for name in names(output) if name.endswith(".tfrecord")]
    assert made == [f"part-{number}.tfrecord" for number in (0, 1, 4)]
    assert len(names(output)) == 6


def mistakes(folder):
    """Name, flags that replace good ones, exit status, what the error says."""
    text = folder / "text.txt"
    text.write_text(f"{PLANTED} is here .\nA second line .\n\nAnother note .\n")
    (folder / "empty.txt").write_text("\n \n")
    (folder / "latin.txt").write_bytes(f"one\n{PLANTED} d\xe9j\xe0\n".encode("latin-1"))
    (folder / "nothing.txt").touch()
    (folder / "cut.txt.gz").write_bytes(gzip.compress(PLANTED.encode() * 99)[:-9])
    (folder / "utf_16.txt").write_text(f"{PLANTED}\n", encoding="utf-16")
    (folder / "folder").mkdir()
    (folder / "twin").mkdir()
    (folder / "twin" / "text.txt.gz").write_bytes(gzip.compress(text.read_bytes()))
    (folder / "no_mask.txt").write_text(f"[CLS]\n[SEP]\n[UNK]\n{PLANTED}\n")
    (folder / "latin_vocab.txt").write_bytes(f"[CLS]\n{PLANTED}\xe9\n".encode("latin-1"))
    (folder / "bad.tfrecord.json").write_text("{")
    (folder / "bad.txt").write_text("a\n")
    no_output = {"output_file": None}
    return {
        "no input flag": ({"input_file": None}, 2, ["input_file"]),
        "no vocabulary flag": ({"vocab_file": None}, 2, ["vocab_file"]),
        "no output": (no_output, 2, ["--output_file", "--output_dir", "--stats_only"]),
        "two outputs": ({"output_dir": folder / "d"}, 2, ["--output_file and --output_dir"]),
        "unknown flag": ({"max_sequence_length": 128}, 2, ["max_sequence_length"]),
        "not a number": ({"max_seq_length": "long"}, 2, ["max_seq_length"]),
        "too short": ({"max_seq_length": 4}, 2, ["--max_seq_length is 4", "at least 5"]),
        "no predictions": ({"max_predictions_per_seq": -1}, 2, ["at least 0"]),
        "no passes": ({"dupe_factor": -1}, 2, ["--dupe_factor is -1"]),
        "no probability": ({"masked_lm_prob": 15}, 2, ["--masked_lm_prob is 15", "0 and 1"]),
        "no such probability": ({"short_seq_prob": -1}, 2, ["--short_seq_prob is -1"]),
        "workers without shards": ({"num_workers": 2}, 2, ["--output_dir"]),
        "no workers": ({**no_output, "output_dir": folder / "d", "num_workers": 0}, 2, ["least 1"]),
        "no buffer": ({"buffer_mb": 0}, 2, ["--buffer_mb is 0"]),
        "comma too many": ({"output_file": "a,,b"}, 2, ["empty path"]),
        "missing text": ({"input_file": folder / "nowhere.txt"}, 1, ["nowhere.txt"]),
        "no match": ({"input_file": folder / "x*.txt"}, 1, ["no file matches", "x*.txt"]),
        "folder as text": ({"input_file": folder / "folder"}, 1, ["is a folder without files"]),
        "blank text": ({"input_file": folder / "empty.txt"}, 1, ["empty.txt", "no text"]),
        "empty text": ({"input_file": folder / "nothing.txt"}, 1, ["nothing.txt: the file is"]),
        "UTF-16": ({"input_file": folder / "utf_16.txt"}, 1, ["utf_16.txt: is UTF-16", "iconv"]),
        "not UTF-8": ({"input_file": folder / "latin.txt"}, 1, ["latin.txt, line 2"]),
        "cut gzip": ({"input_file": folder / "cut.txt.gz"}, 1, ["cut.txt.gz", "cut short"]),
        "missing vocabulary": ({"vocab_file": folder / "v.txt"}, 1, ["--vocab_file", "v.txt"]),
        "no [MASK]": ({"vocab_file": folder / "no_mask.txt"}, 1, ["no_mask.txt", "[MASK]"]),
        "vocabulary not UTF-8": ({"vocab_file": folder / "latin_vocab.txt"}, 1, ["line 2"]),
        "wrong casing": (
            {"do_lower_case": "true", "check_case": "true"}, 1,
            ["276 of 995", "--do_lower_case=False"],
        ),
        "text as vocabulary": ({"vocab_file": text}, 1, ["[CLS], [SEP], [MASK], [UNK]"]),
        "output is input": ({"output_file": text}, 1, ["is an input too"]),
        "output is vocabulary": ({"output_file": golden("vocab_cased.txt")}, 1, ["an input too"]),
        "output twice": ({"output_file": "/tmp/o.tf,/tmp/./o.tf"}, 1, ["another output too"]),
        "folder as output": ({"output_file": folder / "folder"}, 1, ["is a folder"]),
        "output below a file": (
            {"output_file": text / "a.tfrecord"}, 1, [f"--output_file: {text} is a file"],
        ),
        "output folder is a file": (
            {**no_output, "output_dir": text}, 1, [f"--output_dir: {text} is a file"],
        ),
        "output folder below a file": (
            {**no_output, "output_dir": text / "a"}, 1, [f"--output_dir: {text} is a file"],
        ),
        "report below a file": (
            {"report_file": text / "a.html"}, 1, [f"--report_file: {text} is a file"],
        ),
        "unwritable output": ({"output_file": "/proc/a.tfrecord"}, 1, ["/proc/a.tfrecord"]),
        "colliding stems": (
            {**no_output, "output_dir": folder / "d",
             "input_file": f"{text},{folder}/twin/text.txt.gz"},
            1, ["would both become text.tfrecord"],
        ),
        "broken sidecar": (
            {**no_output, "output_dir": folder, "input_file": folder / "bad.txt"},
            1, ["bad.tfrecord.json", "JSON"],
        ),
    }  # fmt: skip


def test_mistakes(tmp_path, capfd):
    table = mistakes(tmp_path)
    assert len(table) >= 30
    before = names(tmp_path)
    good = {
        "input_file": tmp_path / "text.txt",
        "output_file": tmp_path / "out.tfrecord",
        "vocab_file": golden("vocab_cased.txt"),
        "do_lower_case": "false",
    }
    for mistake, (flags, status, fragments) in table.items():
        result = run_here(capfd, MODULE, **{**good, **flags})
        assert_one_line_error(result, status, *fragments)
        assert PLANTED not in result.stdout + result.stderr, mistake
        assert names(tmp_path) == before, mistake


def test_wrong_casing_is_warned_of_and_made_as_google_makes_it(tmp_path, capsys):
    text, output = tmp_path / "text.txt", tmp_path / "a.tfrecord"
    text.write_text("The patient is here .\nA second line .\n\nAnother note .\n")
    flags = {"input_file": text, "output_file": output, "vocab_file": golden("vocab_cased.txt")}
    result = run_here(capsys, MODULE, **flags)
    assert_success(result)
    assert "276 of 995" in result.stderr and "--do_lower_case=False" in result.stderr
    assert read_sidecar(output)["flags"]["do_lower_case"]


def test_no_word_of_the_text_is_shown(tmp_path, small):
    text = tmp_path / "text.txt"
    text.write_text(f"{PLANTED} was here .\nSo was {PLANTED}\n\n" * 30)
    output = tmp_path / "a.tfrecord"
    report = tmp_path / "report.html"
    result = run(input_file=text, output_file=output, report_file=report, **small)
    assert_success(result)
    for shown in (result.stdout, result.stderr, report.read_text(),
                  sidecar_path(output).read_text()):  # fmt: skip
        for part in (PLANTED, PLANTED.lower(), "Zanzibar", "was here"):
            assert part not in shown


# The uncased vocabulary cannot spell capitals.
@pytest.mark.parametrize(("vocab", "charts"), [("vocab_cased.txt", 6), ("vocab_uncased.txt", 7)])
def test_report_by_shard(vocab, charts, tmp_path, shards, small):
    report = tmp_path / "sub" / "report.html"
    result = run_program(
        MODULE, "--stats_only", input_file=f"{shards}/part-*", output_dir=tmp_path / "out",
        report_file=report, **{**small, "vocab_file": golden(vocab)},
    )  # fmt: skip
    assert_success(result)
    page = report.read_text()
    assert page.count("<svg") == charts
    assert all(f"part-{number}.txt" in page for number in range(5))
    assert names(tmp_path) == ["sub"]


def test_full_disk_is_one_line(tmp_path, small, capsys, monkeypatch):
    monkeypatch.setattr(os, "fdopen", full_disk.fdopen("a.tfrecord"))
    flags = {"input_file": golden("part_a.txt"), "output_file": tmp_path / "a.tfrecord"}
    result = run_here(capsys, MODULE, **flags, **small)
    assert_one_line_error(result, 1, "a.tfrecord", "No space left on device", "free some space")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_of_the_buffer_is_one_line(tmp_path, small):
    flags = arguments(
        **{**small, "dupe_factor": 40}, input_file=golden("part_a.txt"),
        output_file=tmp_path / "a.tfrecord", buffer_mb=1,
    )  # fmt: skip
    # A limit on the size of files stands in for a small disk.
    command = ["bash", "-c", 'ulimit -f 1500; exec "$@"', "-", sys.executable, "-m", MODULE]
    result = subprocess.run([*command, *flags], capture_output=True, text=True, cwd=ROOT)
    assert_one_line_error(result, 1, str(tmp_path), "File too large")
    assert list(tmp_path.iterdir()) == []


def busy_flags(shards, output, small):
    """Flags with which the program works for long."""
    return {**small, "input_file": f"{shards}/part-1.txt", **output, "dupe_factor": 30_000}


@pytest.mark.parametrize("workers", [None, 1, 2])
def test_interrupt_leaves_nothing(workers, tmp_path, shards, small):
    output = {"output_dir": tmp_path, "num_workers": workers}
    if workers is None:
        output = {"output_file": tmp_path / "part-1.tfrecord"}
    process = start(**busy_flags(shards, output, small))
    wait_until(lambda: list(tmp_path.glob("part-1.tfrecord.*.partial")), process)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130, stderr
    assert stderr == "create_pretraining_data: error: interrupted\n", stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_killed_and_started_again(tmp_path, shards, small):
    flags = {"input_file": f"{shards}/part-*", "num_workers": 2, **small, "dupe_factor": 600}
    folder = tmp_path / "killed"
    process = start(**flags, output_dir=folder)
    wait_until(lambda: len(list(folder.glob("*.json"))) >= 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=HANG_SECONDS)
    done = {p: p.read_bytes() for p in folder.glob("*.json")}
    assert len(done) < 5
    for path in folder.glob("*.tfrecord"):
        assert len(read_records(path)) > 1000
    result = run(**flags, output_dir=folder)
    assert_success(result)
    assert f"{len(done)} of 5 shards are there already" in result.stdout
    assert_success(run(**{**flags, "num_workers": 1}, output_dir=tmp_path / "whole"))
    assert names(folder) == names(tmp_path / "whole")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


def test_a_damaged_shard_is_made_again(tmp_path, shards, small):
    flags = {"input_file": f"{shards}/part-[02].txt", "output_dir": tmp_path, **small}
    assert_success(run(**flags))
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    cut, changed = tmp_path / "part-0.tfrecord", tmp_path / "part-2.tfrecord"
    os.truncate(cut, 1000)
    content = bytearray(changed.read_bytes())
    content[500] ^= 1
    changed.write_bytes(content)
    result = run(**flags)
    assert result.returncode == 0
    assert "are there already" not in result.stdout
    assert len(result.stderr.splitlines()) == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole
    assert "2 of 2 shards are there already" in run(**flags).stdout


def test_killed_alone_it_takes_its_workers_with_it(tmp_path, shards, small):
    two = {"input_file": f"{shards}/part-1.txt,{shards}/part-3.txt", **small, "dupe_factor": 600}
    assert_success(run(**two, output_dir=tmp_path / "whole"))
    folder = tmp_path / "killed"
    process = start(**two, output_dir=folder, num_workers=2)
    wait_until(lambda: len(list(folder.glob("*.partial"))) == 2, process)
    workers = workers_of(process)
    assert len(workers) == 2
    os.kill(process.pid, signal.SIGKILL)
    assert_success(run(**two, output_dir=folder, num_workers=2))
    # The kernel ends them with it, which takes a moment.
    wait_until(lambda: not any(map(is_worker, workers)))
    process.communicate(timeout=HANG_SECONDS)
    assert names(folder) == names(tmp_path / "whole")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


@pytest.mark.parametrize("kind", ["output_dir", "output_file"])
@pytest.mark.slow
def test_two_programs_do_not_make_the_same_output(kind, tmp_path, shards, small):
    output = {
        "output_dir": {"output_dir": tmp_path, "num_workers": 2},
        "output_file": {"output_file": tmp_path / "part-1.tfrecord"},
    }[kind]
    process = start(**busy_flags(shards, output, small))
    wait_until(lambda: list(tmp_path.glob("part-1.tfrecord.*.partial")), process)
    result = run(**busy_flags(shards, output, small))
    assert_one_line_error(result, 1, str(tmp_path), "another", "wait for its end")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=HANG_SECONDS)


@pytest.mark.slow
def test_programs_with_other_inputs_share_a_folder(tmp_path, shards, small):
    out = tmp_path / "out"
    flags = busy_flags(shards, {"output_dir": out, "num_workers": 2}, small)
    process = start(**flags)
    wait_until(lambda: list(out.glob("part-1.tfrecord.*.partial")), process)
    # What a program on Beam has left; none runs, for it would hold the folder alone.
    (out / STAGING_NAME / "run").mkdir(parents=True)
    other = {"input_file": shards / "part-0.txt", **small}
    assert_success(run(**other, output_dir=out))
    assert not (out / STAGING_NAME).exists()
    # The one that is being made is refused, the other is made nevertheless.
    both = {**other, "input_file": f"{shards}/part-[12].txt"}
    assert_one_line_error(
        run(**both, output_dir=out), 1, "1 of 2 shards", "part-1.tfrecord: another program"
    )
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=HANG_SECONDS)
    (partial,) = out.glob("*.partial")
    partial.unlink()
    assert names(out) == sorted(
        f"part-{number}.tfrecord{suffix}" for number in (0, 2) for suffix in ("", ".json")
    )
    with (
        atomic_files.held(out, "one on Beam"),
        pytest.raises(UserError, match="another create_pretraining_data --runner writes there"),
        atomic_files.held(out, "create_pretraining_data --runner", together=True),
    ):
        pass


def test_worker_that_dies_is_named(tmp_path, shards, small):
    two = f"{shards}/part-1.txt,{shards}/part-3.txt"
    flags = busy_flags(shards, {"output_dir": tmp_path, "num_workers": 2}, small)
    process = start(**{**flags, "input_file": two})
    wait_until(lambda: len(list(tmp_path.glob("*.partial"))) == 2, process)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, stderr = process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 1
    assert len(stderr.splitlines()) == 1, stderr
    assert "SIGKILL" in stderr
    assert "part-" in stderr
    assert list(tmp_path.iterdir()) == []
