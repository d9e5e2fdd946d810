"""What `kill_every_write` runs: every program that writes, in the ways in which it writes."""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import pkgutil
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bert_clinical
from tests.fine_tuning_data import from_checkpoint, write_conll, write_mednli
from tests.format_notes_program import made_up_notes, write_notes
from tests.golden_data import golden
from tests.pretraining.training_workers import one_layer
from tests.running import ROOT, exit_status_here

Flags = dict[str, Any]
Run = Callable[..., Any]


def _nothing(inputs: Path, run: Run) -> None:
    del inputs, run


@dataclass(frozen=True)
class Case:
    """A program and how it is run.

    Attributes:
      name: of the case.
      module: the program, or a script in the folder of the inputs.
      flags: given the folder of the inputs and that of the outputs, which exists; a script's are
        variables of its environment.
      prepare: makes the inputs; may run programs.
      earlier: flags with which it ran before, so that there is something to replace.
      differs: patterns of files that hold times or numbers drawn anew; compared by name only.
      speeds: patterns of JSON files that hold speeds; these are left out.
      named_anew: patterns of files whose names hold times; not compared.
      grows: patterns of files that are written line by line, or several times in a run.
      goes_on_from: patterns of what is left for the next run to go on from after a signal.
      workers: processes of its own; they are killed too.
      tensorflow: the program computes with it, so that nothing but imports can be done beforehand.
      is_long: it is killed at random times, for it makes too many calls to be killed at each.
    """

    name: str
    module: str
    flags: Callable[[Path, Path], Flags]
    prepare: Callable[[Path, Run], None] = _nothing
    earlier: Callable[[Path, Path], Flags] | None = None
    differs: tuple[str, ...] = ()
    speeds: tuple[str, ...] = ()
    named_anew: tuple[str, ...] = ()
    grows: tuple[str, ...] = ()
    goes_on_from: tuple[str, ...] = ()
    workers: bool = False
    tensorflow: bool = False
    is_long: bool = False

    @property
    def imports(self) -> tuple[str, ...]:
        """What a run would import otherwise."""
        if self.module.endswith(".sh"):
            return ()
        return _modules_with_tensorflow() if self.tensorflow else (self.module,)

    def warm_up(self, folder: Path) -> None:
        """Runs the program in this process, so that forks find all compiled, where that can be."""
        if self.tensorflow or self.module.endswith(".sh"):
            return
        place = folder / "warm"
        (place / "out").mkdir(parents=True)
        (place / "in").mkdir()
        with contextlib.redirect_stdout(io.StringIO()):
            self.prepare(place / "in", exit_status_here)
            values = {**self.flags(place / "in", place / "out")}
            values.pop("num_workers", None)
            status = exit_status_here(self.module, **values)
        if status:
            raise AssertionError(f"{self.name} fails")


def _modules_with_tensorflow() -> tuple[str, ...]:
    """Returns what programs with TensorFlow import sooner or later, Beam and PyTorch left out."""
    ours = (
        module.name
        for module in pkgutil.walk_packages(bert_clinical.__path__, "bert_clinical.")
        if "beam" not in module.name and "pytorch" not in module.name
    )
    return (*ours, "tensorflow_text", "matplotlib.pyplot", "pyarrow.parquet")


def _notes(inputs: Path, run: Run) -> None:
    del run
    write_notes(inputs / "notes.csv", made_up_notes(12))


def _many_notes(inputs: Path, run: Run) -> None:
    del run
    write_notes(inputs / "notes.csv", made_up_notes(400))


def _format(inputs: Path, out: Path, **more: Any) -> Flags:
    return {
        "input_file": inputs / "notes.csv", "output_dir": out / "text", "category": "all",
        "sentence_splitter": "rules", **more,
    }  # fmt: skip


def _texts(inputs: Path, run: Run) -> None:
    del run
    documents = golden("sentences_en_core_web_sm.txt").read_text().split("\n\n")
    for number in range(3):
        text = "\n\n".join(documents[2 * number : 2 * number + 2]) + "\n"
        (inputs / f"part-{number}.txt").write_text(text)


def _plant(inputs: Path, out: Path, **more: Any) -> Flags:
    return {
        "input_file": inputs / "part-0.txt", "output_file": out / "planted.txt",
        "canaries_file": out / "canaries.json", "num_canaries": 2, "repetitions": 1, **more,
    }  # fmt: skip


def _examples(inputs: Path, out: Path, **more: Any) -> Flags:
    return {
        "input_file": inputs / "part-*.txt", "vocab_file": golden("vocab_cased.txt"),
        "do_lower_case": False, "dupe_factor": 1, "max_seq_length": 32,
        "max_predictions_per_seq": 5, **{name: out / value for name, value in more.items()},
    }  # fmt: skip


def _several_outputs(inputs: Path, out: Path) -> Flags:
    outputs = f"{out}/a.tfrecord,{out}/b.tfrecord.gz"
    return {**_examples(inputs, out, report_file="report.html"), "output_file": outputs}


def _two_lengths(inputs: Path, out: Path) -> Flags:
    lengths = {"max_seq_length": "32,64", "max_predictions_per_seq": "5,10"}
    return {**_examples(inputs, out), **lengths, "output_dir": f"{out}/32,{out}/64"}


def _tfrecords(inputs: Path, run: Run) -> None:
    _texts(inputs, run)
    run("bert_clinical.create_pretraining_data", **_examples(inputs, inputs, output_dir="."))
    plain = inputs / "part-1.tfrecord"
    with gzip.open(f"{plain}.gz", "wb") as packed:
        packed.write(plain.read_bytes())


def _pretrain(inputs: Path, out: Path, **more: Any) -> Flags:
    return {
        "bert_config_file": one_layer(inputs / "model"),
        "input_file": f"{inputs}/part-0.tfrecord,{inputs}/part-1.tfrecord.gz",
        "eval_input_file": inputs / "part-2.tfrecord", "output_dir": out / "model",
        "do_train": True, "do_eval": True, "train_batch_size": 2, "eval_batch_size": 2,
        "max_eval_steps": 1, "num_train_steps": 3, "num_warmup_steps": 1, "max_seq_length": 32,
        "max_predictions_per_seq": 5, "save_checkpoints_steps": 1, "keep_checkpoint_max": 2,
        "log_every": 1, **more,
    }  # fmt: skip


def _transformers(inputs: Path, run: Run) -> None:
    run(
        "bert_clinical.convert_to_transformers", verify=False,
        **from_checkpoint(), output_dir=inputs / "model",
    )  # fmt: skip


def _to_transformers(inputs: Path, out: Path, **more: Any) -> Flags:
    del inputs
    return {**from_checkpoint(), "verify": False, "output_dir": out / "model", **more}


def _from_transformers(inputs: Path, out: Path) -> Flags:
    return {"transformers_dir": inputs / "model", "output_dir": out / "checkpoint"}


def _audited(inputs: Path, run: Run) -> None:
    _transformers(inputs, run)
    _texts(inputs, run)
    # Its card is an output of the program, and is not compared with what lies among inputs.
    (inputs / "model" / "README.md").unlink()


def _lines(inputs: Path, run: Run) -> None:
    _transformers(inputs, run)
    (inputs / "lines.txt").write_text("The patient was admitted.\nNo fever ||| denies pain\n")


def _features(inputs: Path, out: Path, *, name: str, **more: Any) -> Flags:
    return {
        "input_file": inputs / "lines.txt", "model_dir": inputs / "model",
        "output_file": out / name, **more,
    }  # fmt: skip


def _mednli(inputs: Path, run: Run) -> None:
    del run
    write_mednli(inputs, train=16, dev=6, test=4)


def _conll(inputs: Path, run: Run) -> None:
    del run
    write_conll(inputs, train=16, dev=6, test=4)


def _fine_tune(inputs: Path, out: Path, *, task: str, **more: Any) -> Flags:
    return {
        **from_checkpoint(), "task_name": task, "data_dir": inputs, "output_dir": out / "model",
        "max_seq_length": 32, "train_batch_size": 8, "num_train_epochs": 2, "do_train": True,
        "do_eval": True, "do_predict": True, "save_checkpoints_steps": 2, **more,
    }  # fmt: skip


def _evaluate(inputs: Path, out: Path) -> Flags:
    return {**_fine_tune(inputs, out, task="mednli"), "do_train": False}


def _runs(inputs: Path, run: Run) -> None:
    del run
    for seed in (1, 2):
        folder = inputs / f"run-{seed}"
        folder.mkdir()
        settings = {
            "random_seed": seed, "num_train_epochs": 2, "learning_rate": 1e-4,
            "train_batch_size": 8,
        }  # fmt: skip
        results = {"hyperparameters": settings, "eval_accuracy": 0.5 + seed / 10}
        (folder / "eval_results.json").write_text(json.dumps(results))


def _extend(inputs: Path, out: Path, **more: Any) -> Flags:
    return {
        **from_checkpoint(), "input_file": inputs / "part-*.txt", "min_documents": 2,
        "output_dir": out / "extended", **more,
    }  # fmt: skip


_STAND_IN = """#!/usr/bin/env bash
for argument; do
  case $argument in
  --output_file=*)
    mkdir -p "$(dirname "${argument#*=}")"
    printf 'made\\n' >"${argument#*=}"
    ;;
  --output_dir=*)
    mkdir -p "${argument#*=}"
    for name in discharge_summary.txt discharge_summary.held_out.txt eval_results.txt; do
      printf 'made\\n' >"${argument#*=}/$name"
    done
    ;;
  esac
done
"""
"""For Python, which takes minutes for all stages: writes what a stage is told to write."""


def _scripts(inputs: Path, run: Run) -> None:
    del run
    shutil.copytree(ROOT / "run_scripts", inputs / "run_scripts")
    (inputs / "run_scripts" / "set_up.sh").write_text("#!/usr/bin/env bash\n")
    python = inputs / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(_STAND_IN)
    python.chmod(0o700)


_TO_TRANSFORMERS = functools.partial(
    Case, module="bert_clinical.convert_to_transformers", flags=_to_transformers, tensorflow=True
)
_FORMAT = functools.partial(
    Case,
    module="data_prep.format_notes",
    prepare=_notes,
    goes_on_from=("out/text/format_notes.work*",),
)
_CREATE = functools.partial(Case, module="bert_clinical.create_pretraining_data", prepare=_texts)
_FEATURES = functools.partial(
    Case, module="bert_clinical.extract_features", prepare=_lines, tensorflow=True
)

CASES = [
    Case(
        "sample_notes",
        "data_prep.sample_notes",
        lambda _, out: {"output_file": out / "notes.csv", "num_notes": 30},
        earlier=lambda _, out: {"output_file": out / "notes.csv", "num_notes": 20},
    ),
    _FORMAT("format_notes", flags=_format),
    _FORMAT(
        "format_notes shards",
        flags=functools.partial(_format, num_shards=3, held_out_fraction=0.3),
    ),
    _FORMAT("format_notes near", flags=functools.partial(_format, deduplicate="near")),
    _FORMAT(
        "format_notes workers",
        flags=functools.partial(_format, deduplicate="exact", num_workers=2),
        workers=True,
    ),
    Case(
        "format_notes workers, long",
        "data_prep.format_notes",
        functools.partial(_format, deduplicate="near", num_shards=2, num_workers=2),
        prepare=_many_notes,
        workers=True,
        is_long=True,
    ),
    _FORMAT(
        "format_notes canaries",
        flags=lambda inputs, out: _format(
            inputs, out, plant_canaries=out / "canaries.json", num_canaries=2, repetitions="1,4"
        ),
    ),
    Case(
        "plant_canaries",
        "data_prep.plant_canaries",
        _plant,
        prepare=_texts,
        earlier=_plant,
    ),
    Case(
        "create_vocab",
        "bert_clinical.create_vocab",
        lambda inputs, out: {
            "input_file": inputs / "part-*.txt",
            "output_file": out / "vocab.txt",
            "vocab_size": 200,
            "do_lower_case": False,
        },
        prepare=_texts,
    ),
    Case(
        "extend_vocab",
        "bert_clinical.extend_vocab",
        functools.partial(_extend, num_new_entries=20),
        prepare=_texts,
        earlier=functools.partial(_extend, num_new_entries=10),
        tensorflow=True,
    ),
    _CREATE("create_pretraining_data file", flags=_several_outputs, earlier=_several_outputs),
    _CREATE(
        "create_pretraining_data dir",
        flags=functools.partial(_examples, output_dir="tfrecords", report_file="report.html"),
    ),
    _CREATE(
        "create_pretraining_data workers",
        flags=lambda inputs, out: {
            **_examples(inputs, out, output_dir="tfrecords"),
            "num_workers": 2,
        },
        workers=True,
    ),
    _CREATE("create_pretraining_data two lengths", flags=_two_lengths),
    _CREATE(
        "create_pretraining_data workers, long",
        flags=lambda inputs, out: {
            **_examples(inputs, out, output_dir="tfrecords"),
            "dupe_factor": 500,
            "num_workers": 2,
        },
        workers=True,
        is_long=True,
    ),
    Case(
        "run_pretraining",
        "bert_clinical.run_pretraining",
        _pretrain,
        prepare=_tfrecords,
        tensorflow=True,
        speeds=("out/model/training_log.jsonl", "out/model/pretraining_run.json"),
        named_anew=("out/model/tensorboard/*",),
        grows=tuple(
            f"out/model/{name}"
            for name in (
                "training_log.jsonl",
                "pretraining_run.json",
                "checkpoint",
                "data_index.npz",
                "data_digests.json",
                "training_curves.png",
            )
        ),
    ),
    _TO_TRANSFORMERS("convert_to_transformers"),
    _TO_TRANSFORMERS(
        "convert_to_transformers shards, again",
        flags=functools.partial(_to_transformers, max_shard_size="100KB"),
        earlier=_to_transformers,
    ),
    Case(
        "convert_from_transformers",
        "bert_clinical.convert_from_transformers",
        _from_transformers,
        prepare=_transformers,
        tensorflow=True,
    ),
    Case(
        "export_saved_model",
        "bert_clinical.export_saved_model",
        lambda inputs, out: {"model_dir": inputs / "model", "output_dir": out / "served"},
        prepare=_transformers,
        tensorflow=True,
        # TensorFlow puts a number of its own into it for each time that a model is saved.
        differs=("out/served/1/fingerprint.pb",),
    ),
    _FEATURES(
        "extract_features json", flags=functools.partial(_features, name="f.jsonl", layers="-1,-2")
    ),
    _FEATURES(
        "extract_features npy", flags=functools.partial(_features, name="f.npy", pooling="mean")
    ),
    _FEATURES(
        "extract_features parquet",
        flags=functools.partial(_features, name="f.parquet", pooling="cls"),
    ),
    Case(
        "audit_memorization",
        "bert_clinical.audit_memorization",
        lambda inputs, out: {
            "model_dir": inputs / "model",
            "member_file": inputs / "part-0.txt",
            "non_member_file": inputs / "part-1.txt",
            "max_seq_length": 32,
            "output_dir": out / "audit",
        },
        prepare=_audited,
        tensorflow=True,
    ),
    Case(
        "fill_mask",
        "bert_clinical.fill_mask",
        lambda inputs, _: {"model_dir": inputs / "model", "text": "No [MASK] was seen ."},
        prepare=_transformers,
        tensorflow=True,
    ),
    Case(
        "run_classifier",
        "bert_clinical.run_classifier",
        functools.partial(_fine_tune, task="mednli"),
        prepare=_mednli,
        tensorflow=True,
    ),
    Case(
        "run_classifier evaluation",
        "bert_clinical.run_classifier",
        _evaluate,
        prepare=_mednli,
        earlier=functools.partial(_fine_tune, task="mednli", do_predict=False, do_eval=False),
        tensorflow=True,
    ),
    Case(
        "run_ner",
        "bert_clinical.run_ner",
        functools.partial(_fine_tune, task="i2b2_2010"),
        prepare=_conll,
        tensorflow=True,
    ),
    Case(
        "quickstart",
        "run_scripts/quickstart.sh",
        lambda _, out: {"OUTPUT_DIR": str(out / "quick")},
        prepare=_scripts,
        grows=("out/quick/*",),
    ),
    Case(
        "compare_runs",
        "bert_clinical.compare_runs",
        lambda inputs, out: {
            "runs_dir": inputs,
            "metric": "accuracy",
            "output_file": out / "table.csv",
        },
        prepare=_runs,
    ),
]
