"""Runs every program on notes with a planted word, well and with many mistakes; looks for the word.

    python -m tests.drills.planted_word [--quick] [--folder DIR] [--only PART_OF_A_NAME]

The word stands in every note, so that it stands in the data that the programs make: text,
TFRecords, vectors, predictions. It may stand nowhere else: on standard output or error, in a file's
name, in a sidecar, manifest, report, log, record, model card, event file or checkpoint. A mistake
ends with one line that does not ask to be reported. The last line counts what was tried and found.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fine_tuning_data import write_conll, write_mednli
from tests.format_notes_program import write_notes
from tests.golden_data import golden
from tests.running import HANG_SECONDS, ROOT, arguments, exit_status_here

PLANTED = "Quixzandorph"
"""As in the data of `fine_tuning_data`."""

FRAGMENTS = (b"quixza", b"zandor", b"andorph")
"""Parts by which it is known when it was cut."""

DATA = (
    "*.txt",
    "*.txt.gz",
    "*.tfrecord",
    "*.csv",
    "*.parquet",
    "*.npz",
    "*.npy",
    "*.jsonl",
    "*.db",
)
"""Names of files that hold notes or what is made of them."""

FORMAT, VOCAB = "data_prep.format_notes", "bert_clinical.create_vocab"
CREATE, PRETRAIN = "bert_clinical.create_pretraining_data", "bert_clinical.run_pretraining"
TO, FROM = "bert_clinical.convert_to_transformers", "bert_clinical.convert_from_transformers"
EXPORT, EXTRACT = "bert_clinical.export_saved_model", "bert_clinical.extract_features"
FILL, CLASSIFY = "bert_clinical.fill_mask", "bert_clinical.run_classifier"
NER, COMPARE = "bert_clinical.run_ner", "bert_clinical.compare_runs"
EXTEND = "bert_clinical.extend_vocab"
CANARIES, AUDIT = "data_prep.plant_canaries", "bert_clinical.audit_memorization"

SHORT = {"max_seq_length": 32, "max_predictions_per_seq": 5}
RULES = {"sentence_splitter": "rules"}


@dataclass(frozen=True)
class Case:
    """One run of a program.

    Attributes:
      name: what is tried.
      module: the program.
      args: of the command line, before the flags.
      flags: in the order of the command line; OUT stands for a folder of the case.
      fails: whether it must; None if it may.
      before: lines of Python that run in its process first; then it has one of its own.
      shell: a shell command with {program} in it; then it has a process of its own.
    """

    name: str
    module: str
    args: tuple[str, ...] = ()
    flags: dict[str, Any] = field(default_factory=dict)
    fails: bool | None = True
    before: str = ""
    shell: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it runs within the drill's process."""
        return not self.before and not self.shell


class World:
    """A folder with something of every kind that a program reads, the word in all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = write_notes(folder / "notes.csv", notes())
        self.text = folder / "notes.txt"
        self.text.write_text(f"{PLANTED} was seen today .\nHe went home with {PLANTED} .\n\n" * 40)
        self.others = folder / "others.txt"
        self.others.write_text(f"She saw {PLANTED} .\nNobody else was there .\n\n" * 40)
        # A word of the trade in enough documents for an entry, and the planted one in too few.
        self.common = folder / "common.txt"
        self.common.write_text(
            f"Warfarin was given to {PLANTED} .\n\n" * 49 + "Warfarin was given .\n\n" * 9
        )
        self.vocab = golden("vocab_cased.txt")
        self.config = golden("model/bert_config.json")
        self.records = folder / "examples.tfrecord"
        self.checkpoint = {"init_checkpoint": golden("init"), "bert_config_file": self.config}
        self.model = {
            "model_dir": golden("init"), "bert_config_file": self.config,
            "vocab_file": self.vocab, "do_lower_case": False, "gelu": "erf",
        }  # fmt: skip
        self.mednli, self.conll = folder / "mednli", folder / "conll"
        write_mednli(self.mednli, train=12, dev=6, test=4)
        write_conll(self.conll, train=12, dev=6, test=4)
        self.wrong = self._wrong_files()

    def _wrong_files(self) -> dict[str, Path]:
        """Returns files and folders that are none of what a flag asks for."""
        folder = self.folder / "wrong"
        (folder / "folder").mkdir(parents=True)
        text = self.text.read_bytes()
        contents = {
            "text": text,
            "no text": b"\xff\xfe\x00" + text,
            "broken gzip.gz": gzip.compress(text)[:-9],
            "no gzip.csv.gz": text,
            "broken csv.csv": self.notes.read_bytes()[:-40] + b'"',
            "no parquet.parquet": text,
            "list.json": f'["{PLANTED}"]'.encode(),
            "broken.json": f'{{"{PLANTED}": '.encode(),
            "other.json": f'{{"{PLANTED}": "{PLANTED}"}}'.encode(),
            "empty": b"",
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        (folder / "folder" / "config.json").write_bytes(contents["other.json"])
        (folder / "folder" / "model.safetensors").write_bytes(text)
        (folder / "folder" / "vocab.txt").write_bytes(text)
        return {name: folder / name for name in (*contents, "folder", "missing")}

    def make(self) -> None:
        """Makes what programs of the project make; to be called before the cases are run."""
        assert exit_status_here(CREATE, **self.create(output_file=self.records)) == 0

    def create(self, **flags: Any) -> dict[str, Any]:
        """Returns flags that make examples of the text."""
        return {
            "input_file": self.text, "vocab_file": self.vocab, "do_lower_case": False,
            "dupe_factor": 1, **SHORT, **flags,
        }  # fmt: skip

    def pretrain(self, **flags: Any) -> dict[str, Any]:
        """Returns flags for two steps of training."""
        return {
            "bert_config_file": self.config, "input_file": self.records, **SHORT,
            "train_batch_size": 4, "num_train_steps": 2, "num_warmup_steps": 1,
            "max_eval_steps": 2, "do_train": True, **flags,
        }  # fmt: skip

    def task(self, **flags: Any) -> dict[str, Any]:
        """Returns flags for fine-tuning."""
        return {
            **self.checkpoint, "vocab_file": self.vocab, "do_lower_case": False, "do_train": True,
            "do_eval": True, "do_predict": True, "max_seq_length": 16, "num_train_epochs": 1,
            "train_batch_size": 4, "gelu": "erf", **flags,
        }  # fmt: skip


def notes() -> list[tuple]:
    """Returns rows of notes, the word in each; its heading is in those of one patient."""
    return [
        (7, "Discharge summary", "",
         f"Admission Date: [**2150-1-1**]\n\n{PLANTED} Ellwood:\nSeen by {PLANTED} {number} .\n")
        for number in range(30)
    ]  # fmt: skip


OUT = Path("OUT")


def well(world: World) -> list[Case]:
    """Returns a run of every program that ends well, each after those whose output it takes."""

    def case(name: str, module: str, **flags: Any) -> Case:
        return Case(name, module, flags=flags, fails=False)

    run, folder = world.folder / "run", world.folder / "transformers"
    given = {"vocab_file": world.vocab, "do_lower_case": False, "gelu": "erf"}
    converted = {"init_checkpoint": run, "bert_config_file": world.config, **given}
    return [
        case("notes", FORMAT, input_file=world.notes, output_dir=OUT, category="all", **RULES),
        case("vocabulary", VOCAB, input_file=world.text, output_file=OUT / "vocab.txt",
             vocab_size=150, do_lower_case=False),
        case("entries", EXTEND, **world.checkpoint, vocab_file=world.vocab, do_lower_case=False,
             input_file=world.common, output_dir=OUT),
        case("canaries", CANARIES, input_file=world.text, output_file=OUT / "text.txt",
             canaries_file=OUT / "canaries.jsonl", repetitions="0,4"),
        case("examples", CREATE, **world.create(output_dir=OUT)),
        case("report", CREATE, **world.create(output_file=OUT / "e.tfrecord",
                                              report_file=OUT / "report.html")),
        case("training", PRETRAIN, **world.pretrain(output_dir=run, do_eval=True, gelu="erf")),
        case("audit", AUDIT, **converted, member_file=world.text, non_member_file=world.others,
             max_notes=10, max_seq_length=32, output_dir=OUT),
        case("plan", PRETRAIN, **world.pretrain(output_dir=OUT, plan=True)),
        case("to transformers", TO, **converted, output_dir=folder, verify=False),
        case("from transformers", FROM, transformers_dir=folder, output_dir=OUT),
        case("saved model", EXPORT, model_dir=run, bert_config_file=world.config, **given,
             output_dir=OUT, max_seq_length=32),
        case("vectors", EXTRACT, input_file=world.text, output_file=OUT / "vectors.jsonl",
             **converted, max_seq_length=32, layers="-1"),
        case("vectors of notes", EXTRACT, input_file=world.notes, output_file=OUT / "vectors.npy",
             **converted, max_seq_length=32, pooling="mean"),
        # Its answer is what may be at the gap; the text itself is not repeated.
        case("fill a gap", FILL, model_dir=folder, text=f"{PLANTED} was [MASK] ."),
        case("classification", CLASSIFY, task_name="mednli", data_dir=world.mednli,
             output_dir=world.folder / "tasks_done" / "a", **world.task()),
        case("entities", NER, task_name="conll", data_dir=world.conll, output_dir=OUT,
             **world.task()),
        case("comparison", COMPARE, runs_dir=world.folder / "tasks_done", metric="accuracy",
             output_file=OUT / "runs.csv"),
    ]  # fmt: skip


def wrong_files(world: World) -> Iterator[Case]:
    """Yields for every program and every path that it takes what is none of what it asks for."""
    programs: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        FORMAT: (
            {"input_file": world.notes, "output_dir": OUT / "o", **RULES},
            ("input_file", "output_dir", "input_sql", "spacy_model"),
        ),
        VOCAB: (
            {"input_file": world.text, "output_file": OUT / "v.txt"}, ("input_file", "output_file")
        ),
        EXTEND: (
            {**world.checkpoint, "vocab_file": world.vocab, "do_lower_case": False,
             "input_file": world.common, "output_dir": OUT / "o"},
            ("input_file", "init_checkpoint", "bert_config_file", "vocab_file", "output_dir"),
        ),
        CANARIES: (
            {"input_file": world.text, "output_file": OUT / "o", "canaries_file": OUT / "c"},
            ("input_file", "output_file", "canaries_file"),
        ),
        AUDIT: (
            {**world.checkpoint, "vocab_file": world.vocab, "do_lower_case": False,
             "member_file": world.text, "non_member_file": world.others, "max_notes": 10,
             "max_seq_length": 32, "output_dir": OUT / "o"},
            ("canaries_file", "member_file", "non_member_file", "reference_dir", "init_checkpoint",
             "output_dir"),
        ),
        CREATE: (
            world.create(output_file=OUT / "e"), ("input_file", "vocab_file", "output_file")
        ),
        PRETRAIN: (
            world.pretrain(output_dir=OUT / "o"),
            ("input_file", "bert_config_file", "init_checkpoint", "output_dir", "eval_input_file"),
        ),
        TO: (
            {**world.checkpoint, "vocab_file": world.vocab, "do_lower_case": False,
             "output_dir": OUT / "o", "verify": False},
            ("init_checkpoint", "bert_config_file", "vocab_file", "output_dir"),
        ),
        FROM: (
            {"transformers_dir": world.folder / "transformers", "output_dir": OUT / "o"},
            ("transformers_dir", "output_dir"),
        ),
        EXPORT: (
            {**world.model, "output_dir": OUT / "o", "max_seq_length": 32},
            ("model_dir", "bert_config_file", "vocab_file", "output_dir"),
        ),
        EXTRACT: (
            {**world.checkpoint, "vocab_file": world.vocab, "do_lower_case": False, "gelu": "erf",
             "input_file": world.text, "output_file": OUT / "v.jsonl", "max_seq_length": 32},
            ("input_file", "init_checkpoint", "bert_config_file", "vocab_file", "output_file"),
        ),
        FILL: (
            {**world.model, "text": f"{PLANTED} [MASK]"},
            ("model_dir", "bert_config_file", "vocab_file"),
        ),
        CLASSIFY: (
            {"task_name": "mednli", "data_dir": world.mednli, "output_dir": OUT / "o",
             **world.task()},
            ("data_dir", "vocab_file", "transformers_dir", "output_dir"),
        ),
        NER: (
            {"data_dir": world.conll, "output_dir": OUT / "o", **world.task(),
             "task_name": "conll"},
            ("data_dir", "init_checkpoint", "bert_config_file", "output_dir"),
        ),
        COMPARE: (
            {"runs_dir": world.folder / "tasks_done", "output_file": OUT / "runs.csv",
             "metric": "accuracy"},
            ("runs_dir", "output_file"),
        ),
    }  # fmt: skip
    for module, (flags, paths) in programs.items():
        for path in paths:
            for kind, file in world.wrong.items():
                value: object = file
                if path.startswith("output"):
                    # An output may be made, or written over.
                    if kind != "text":
                        continue
                    kind, value = "below a file", file / "below"
                if path == "input_sql":
                    value = f"sqlite:///{file}"
                given = {**flags, path: value}
                if path == "input_sql":
                    given = {**given, "input_file": None, "sql_table": "notes"}
                if path == "eval_input_file":
                    given = {**given, "do_eval": True}
                if path == "spacy_model":
                    given = {**given, "sentence_splitter": "spacy"}
                name = f"{module.rpartition('.')[2]}: --{path} is {kind}"
                yield Case(name, module, flags=given, fails=None)
        yield Case(f"{module}: arguments", module, args=("The", PLANTED), flags=flags)
        yield Case(f"{module}: unknown flag", module, args=(f"-{PLANTED}",), flags=flags)
        yield Case(f"{module}: file of flags", module, args=(f"--flagfile={world.text}",))


def special(world: World) -> Iterator[Case]:
    """Yields mistakes of the data, of the machine, and ends by force."""

    def bad(name: str, content: bytes, **flags: Any) -> Case:
        path = world.folder / "bad" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"ROW_ID,SUBJECT_ID,CATEGORY,ISERROR,TEXT\n" + content)
        given = {"input_file": path, "output_dir": OUT / "o", **RULES, **flags}
        return Case(f"format_notes: {name}", FORMAT, flags=given)

    word = PLANTED.encode()
    note = b'1,1,Discharge summary,,"A ' + word + b' note."\n'
    yield bad("fields.csv", note + b"2,1," + word + b"\n")
    yield bad("bytes.csv", note + b"2,1,A,," + word + b"\xff\n")
    yield bad("quote.csv", note + b'2,1,A,,"' + word + b"\n")
    yield bad("null.csv", note + b"2,1,A,," + word + b"\0\n")
    yield bad("header.csv", b"")
    yield bad("category.csv", b"1,1," + word + b",,x\n", category="Radiology")
    yield bad("near.csv", b"1,1," + word + b",,x\n", category="Qixzanorp")
    yield bad("long.csv", b"1,1," + word * 20 + b",,x\n", category="all")
    yield bad("no subject.csv", b"2,,A,," + word + b"\n", held_out_fraction=0.5)
    for name, header in (("twice", b"TEXT,TEXT,CATEGORY\n"), ("text as header", word + b" was\n")):
        path = world.folder / "bad" / f"{name}.csv"
        path.write_bytes(header + b"a,b,c\n")
        yield Case(
            f"format_notes: {name}",
            FORMAT,
            flags={"input_file": path, "output_dir": OUT / "o", **RULES},
        )
    yield from _tasks(world)
    yield from _texts(world)
    yield from _machine(world)


def _tasks(world: World) -> Iterator[Case]:
    """Yields data of tasks with mistakes."""

    def case(name: str, module: str, content: str, **flags: Any) -> Case:
        flags.setdefault("task_name", "conll")
        folder = world.folder / "tasks" / name
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("train", "dev", "test"):
            (folder / f"{part}.tsv").write_text(content)
            (folder / f"mli_{part}_v1.jsonl").write_text(content)
        given = {**world.task(), "data_dir": folder, "output_dir": OUT / "o", **flags}
        return Case(f"{module.rpartition('.')[2]}: {name}", module, flags=given)

    tsv, mednli = {"task_name": "tsv"}, {"task_name": "mednli"}
    yield case("no columns", CLASSIFY, f"{PLANTED}\tlabel\nx\ty\n", **tsv)
    yield case("fields", CLASSIFY, f"sentence1\tlabel\n{PLANTED}\ta\tb\n", **tsv)
    rows = "".join(f"{PLANTED}\t{PLANTED} {number}\n" for number in range(12))
    yield case("text as labels", CLASSIFY, f"sentence1\tlabel\n{rows}", **tsv)
    long = "".join(
        f"a\t{PLANTED} was seen by him and went home {n % 2} {'again ' * 12}\n" for n in range(12)
    )
    yield case("long labels", CLASSIFY, f"sentence1\tlabel\n{long}", **tsv)
    yield case("one label", CLASSIFY, f"sentence1\tlabel\na\t{PLANTED}\n", **tsv)
    yield case("broken JSON", CLASSIFY, f'{{"sentence1": "{PLANTED}\n', **mednli)
    yield case("list", CLASSIFY, f'["{PLANTED}"]\n', **mednli)
    other = f'{{"sentence1": "a", "sentence2": "b", "gold_label": "{PLANTED}"}}\n'
    yield case("gold label", CLASSIFY, other, **mednli)
    yield case("keys", CLASSIFY, f'{{"{PLANTED}": "a"}}\n', **mednli)
    yield case("no label", NER, f"{PLANTED}\n\n")
    yield case("label", NER, f"a\t{PLANTED}\n\n")
    yield case("all outside", NER, f"{PLANTED}\tO\n\n")


def _texts(world: World) -> Iterator[Case]:
    """Yields texts and words where others are expected."""
    fill = {**world.model, "top_k": 3}
    yield Case("no gap", FILL, flags={**fill, "text": PLANTED})
    yield Case("too long", FILL, flags={**fill, "text": f"[MASK] {PLANTED} " * 60})
    for name, words in (
        ("blanks", ["The", PLANTED, "was", "[MASK]"]),
        ("dash", ["-", PLANTED]),
        ("flag", [f"--{PLANTED}", "[MASK]"]),
        ("near", [f"--text{PLANTED}"]),
    ):
        yield Case(f"text without quotes: {name}", FILL, args=("--text=He", *words), flags=fill)
    for flag, module, flags in (
        ("num_shards", FORMAT, {"input_file": world.notes, "output_dir": OUT}),
        ("section_rules", FORMAT, {"input_file": world.notes, "output_dir": OUT}),
        ("held_out_fraction", FORMAT, {"input_file": world.notes, "output_dir": OUT}),
        ("dupe_factor", CREATE, world.create(output_file=OUT / "e")),
        ("max_seq_length", CREATE, world.create(output_file=OUT / "e")),
        ("do_train", PRETRAIN, world.pretrain(output_dir=OUT)),
        ("precision", PRETRAIN, world.pretrain(output_dir=OUT)),
        ("output_mode", VOCAB, {"input_file": world.text, "output_file": OUT / "v.txt"}),
    ):
        yield Case(f"--{flag} is a word", module, args=(f"--{flag}={PLANTED}",), flags=flags)


FULL = "import os\nfrom tests import full_disk\nos.fdopen = full_disk.fdopen({name!r})\n"

RAISES = """
from data_prep import sectioning
def split(text, rules):
    raise {error}(text)
sectioning.split_sections = split
"""

SIGNAL = """
import os, signal
from data_prep import sectioning
def split(text, rules):
    os.kill(os.getpid(), signal.{name})
    import time; time.sleep(60)
sectioning.split_sections = split
"""


def _machine(world: World) -> Iterator[Case]:
    """Yields full disks, dead workers, signals and closed outputs, each in a process of its own."""
    notes = {"input_file": world.notes, "output_dir": OUT / "o", **RULES}
    create = world.create(output_dir=OUT / "o")
    yield Case("disk full, notes", FORMAT, flags=notes, before=FULL.format(name="shard-"))
    yield Case("disk full, manifest", FORMAT, flags=notes, before=FULL.format(name="manifest"))
    yield Case("disk full, examples", CREATE, flags=create, before=FULL.format(name="notes.tf"))
    for error in ("ValueError", "OSError", "MemoryError", "UnicodeError", "KeyError"):
        for workers in (1, 2):
            yield Case(
                f"{error} in {workers} worker(s)",
                FORMAT,
                flags={**notes, "num_workers": workers},
                before=RAISES.format(error=error),
            )
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"):
        yield Case(f"{name}", FORMAT, flags=notes, before=SIGNAL.format(name=name))
    yield Case(
        "SIGKILL of a worker",
        FORMAT,
        flags={**notes, "num_workers": 2},
        before=SIGNAL.format(name="SIGKILL"),
    )
    yield Case(
        "ValueError on Beam",
        FORMAT,
        flags={**notes, "runner": "DirectRunner", "pipeline_options": "--beam_plugins=sabotage"},
        shell="cd $OUT && {program}",
        before=RAISES.format(error="ValueError"),
    )
    yield Case(
        "examples on Beam",
        CREATE,
        fails=False,
        flags={**create, "runner": "DirectRunner"},
        shell="{program}",
    )
    yield Case(
        "notes on Beam",
        FORMAT,
        fails=False,
        flags={**notes, "runner": "DirectRunner"},
        shell="{program}",
    )
    yield Case(
        "not UTF-8 on Beam",
        CREATE,
        flags={**create, "input_file": world.wrong["no text"], "runner": "DirectRunner"},
        shell="{program}",
    )
    yield Case("files of a limited size", CREATE, flags=create, shell="ulimit -f 2; {program}")
    yield Case("standard error closed", FORMAT, flags=notes, shell="{program} 2>&-", fails=False)
    yield Case("standard output closed", FORMAT, flags=notes, shell="{program} >&-", fails=False)
    yield Case(
        "both closed, and a mistake",
        FORMAT,
        flags={**notes, "category": PLANTED},
        shell="{program} >&- 2>&-",
    )
    yield Case(
        "standard output full", FORMAT, flags=notes, shell="{program} >/dev/full", fails=False
    )


@dataclass
class Found:
    """What a case said and left behind.

    Attributes:
      status: of its exit.
      said: standard output and error together.
      errors: lines on standard error.
      leaks: where the word stands although it may not.
    """

    status: int
    said: bytes
    errors: list[str]
    leaks: list[str]

    def faults(self, case: Case) -> list[str]:
        """Returns what is wrong with it."""
        faults = [f"the word stands in {place}" for place in self.leaks]
        text = self.said.decode(errors="replace")
        if "Traceback" in text or ("please report" in text and "Error" not in case.name):
            faults.append("no line that a user can use")
        if case.fails is not None and (self.status != 0) != case.fails:
            faults.append(f"exit status {self.status}")
        if self.status and len(self.errors) != 1 and ">&-" not in case.shell:
            faults.append(f"{len(self.errors)} lines on standard error")
        return faults


def run(case: Case, world: World, out: Path) -> Found:
    """Runs a case; what it makes lies in `out`."""
    out.mkdir(parents=True)
    flags = {name: _placed(value, out) for name, value in case.flags.items()}
    before = set(_files(world.folder))
    if case.is_here:
        status, said, errors = _run_here(case, flags)
    else:
        status, said, errors = _run_apart(case, flags, out)
    leaks = [] if not has_word(said) else ["what it said"]
    made = sorted(set(_files(world.folder)) - before)
    for path in made:
        shown = path.relative_to(world.folder)
        if has_word(str(shown).encode()):
            leaks.append("the name of a file")
        is_data = any(path.match(pattern) for pattern in DATA) or ".work" in str(shown)
        if not is_data and has_word(path.read_bytes()):
            leaks.append(str(shown))
    return Found(status, said, errors.decode(errors="replace").splitlines(), leaks)


def _placed(value: Any, out: Path) -> Any:
    is_placed = isinstance(value, Path) and value.parts[:1] == OUT.parts
    return out.joinpath(*value.parts[1:]) if is_placed else value


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def has_word(content: bytes) -> bool:
    """Returns whether the word or a part of it stands there, also in WordPieces."""
    lower = content.lower()
    joined = lower.replace(b" ##", b"")
    return any(part in lower or part in joined for part in FRAGMENTS)


def _run_here(case: Case, flags: dict[str, Any]) -> tuple[int, bytes, bytes]:
    """Runs a program in this process; also what libraries write to the descriptors is taken."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        kept = os.dup(1), os.dup(2)
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            with (
                io.TextIOWrapper(os.fdopen(os.dup(1), "wb", 0), write_through=True) as text_out,
                io.TextIOWrapper(os.fdopen(os.dup(2), "wb", 0), write_through=True) as text_err,
                contextlib.redirect_stdout(text_out),
                contextlib.redirect_stderr(text_err),
            ):
                status = exit_status_here(case.module, *case.args, **flags)
        finally:
            for number, descriptor in enumerate(kept, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
        out.seek(0)
        err.seek(0)
        said, errors = out.read(), err.read()
        return status, said + errors, errors


def _run_apart(case: Case, flags: dict[str, Any], out: Path) -> tuple[int, bytes, bytes]:
    """Runs a program in a process of its own."""
    command = [sys.executable, "-m", case.module]
    if case.before:
        # Workers and Beam's processes import what their parent ran.
        script = out / "sabotage.py"
        package, name = case.module.rsplit(".", 1)
        script.write_text(
            f"{case.before}\nfrom {package} import {name}\n"
            f"if __name__ == '__main__':\n    {name}.cli()\n"
        )
        command = [sys.executable, str(script)]
    command += [*case.args, *arguments(**flags)]
    path = os.pathsep.join([str(ROOT), str(out), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OUT": str(out)}
    if case.shell:
        if case.before:
            command[1:2] = ["-m", case.module]
        environment |= {f"ARG_{number}": part for number, part in enumerate(command)}
        program = " ".join(f'"$ARG_{number}"' for number in range(len(command)))
        command = ["bash", "-c", case.shell.format(program=program)]
    result = subprocess.run(
        command, capture_output=True, timeout=HANG_SECONDS, cwd=ROOT, env=environment
    )
    if case.before:
        (out / "sabotage.py").unlink()
    return result.returncode, result.stdout + result.stderr, result.stderr


def drill(world: World, cases: list[Case], tell: Callable[[str], None]) -> dict[str, list[str]]:
    """Runs cases and returns the faults of those that have some."""
    faulty = {}
    for case in cases:
        start = time.monotonic()
        found = run(case, world, world.folder / "out" / secrets.token_hex(4))
        faults = found.faults(case)
        tell(f"{time.monotonic() - start:5.1f} s  {found.status}  {case.name}")
        if faults:
            faulty[case.name] = faults
            said = found.said.decode(errors="replace").strip()
            tell(f"         FAULT {'; '.join(faults)}\n{said[-2000:]}")
    return faulty


def main() -> None:
    """Runs the drill."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="no case with a process of its own")
    parser.add_argument("--folder", help="kept afterwards; a temporary one unless given")
    parser.add_argument("--only", default="", help="cases with this in their name")
    values = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(values.folder or temporary).resolve()
        folder.mkdir(exist_ok=True)
        world = World(folder)
        world.make()
        cases = [*well(world), *wrong_files(world), *special(world)]
        cases = [c for c in cases if values.only in c.name and (c.is_here or not values.quick)]
        faulty = drill(world, cases, lambda line: print(line, flush=True))
    for name, faults in faulty.items():
        print(f"{name}: {'; '.join(faults)}")
    failures = sum(case.fails is not False for case in cases)
    leaks = sum("the word" in fault for faults in faulty.values() for fault in faults)
    print(
        f"{len(cases)} runs, {failures} of them with a mistake or a misfortune: {leaks} leaks, "
        f"{len(faulty)} with a fault"
    )
    sys.exit(bool(faulty))


if __name__ == "__main__":
    main()
