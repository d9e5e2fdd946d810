"""A small model that was trained on text with canaries, in about a minute of one processor."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from bert_clinical.tokenization import BasicTokenizer
from bert_clinical.wordpieces.vocabulary import SPECIAL_TOKENS
from tests.running import exit_status_here

LENGTHS = {"max_seq_length": 32, "max_predictions_per_seq": 5}

_SUBJECTS = ("patient", "woman", "man", "child", "mother", "father", "teacher", "nurse", "cook")
_STATES = ("stable", "tired", "anxious", "febrile", "alert", "confused", "pale", "weak", "calm")
_PARTS = ("chest", "back", "neck", "knee", "hip", "head", "arm", "foot", "hand", "belly")
_SIGNS = ("pain", "rash", "swelling", "weakness", "numbness", "bruise", "burning", "itching")
_DRUGS = ("aspirin", "heparin", "insulin", "morphine", "codeine", "digoxin", "warfarin", "lasix")


@dataclass(frozen=True)
class Trained:
    """Where everything lies.

    Attributes:
      folder: of all of it.
      flags: that name the model to audit_memorization, with canaries and reference.
      members: text of documents that it was trained on, without canaries.
      others: text of documents that it never saw.
    """

    folder: Path
    flags: dict[str, object]
    members: Path
    others: Path


def train(folder: Path, *, steps: int, num_canaries: int, repetitions: str) -> Trained:
    """Trains a model as its user would, program by program."""
    rng = random.Random(3)
    members, others = folder / "members.txt", folder / "others.txt"
    members.write_text("\n\n".join(_document(rng) for _ in range(100)) + "\n")
    others.write_text("\n\n".join(_document(rng) for _ in range(150)) + "\n")
    planted = folder / "planted" / "members.txt"
    _run(
        "data_prep.plant_canaries", input_file=members, output_file=planted,
        canaries_file=folder / "canaries.json", num_canaries=num_canaries,
        repetitions=repetitions, secrets="digits",
    )  # fmt: skip
    names = {"vocab_file": folder / "vocab.txt", "do_lower_case": False}
    config = folder / "bert_config.json"
    _write_vocabulary(names["vocab_file"], [planted, others])
    _write_config(config, len(names["vocab_file"].read_text().splitlines()))
    for text, name in ((planted, "train"), (others, "start")):
        _run(
            "bert_clinical.create_pretraining_data", input_file=text,
            output_file=folder / f"{name}.tfrecord", dupe_factor=20, **names, **LENGTHS,
        )  # fmt: skip
    common = {
        "bert_config_file": config, "do_train": True, "train_batch_size": 32,
        "learning_rate": 3e-3, "log_every": 100, **LENGTHS,
    }  # fmt: skip
    # What training begins with, saved after a step that changes next to nothing.
    _run(
        "bert_clinical.run_pretraining", input_file=folder / "start.tfrecord",
        output_dir=folder / "reference", num_train_steps=1, num_warmup_steps=1, **common,
    )  # fmt: skip
    _run(
        "bert_clinical.run_pretraining", input_file=folder / "train.tfrecord",
        init_checkpoint=folder / "reference", output_dir=folder / "model",
        num_train_steps=steps, num_warmup_steps=50, save_checkpoints_steps=steps, **common,
    )  # fmt: skip
    flags = {
        "init_checkpoint": folder / "model", "reference_dir": folder / "reference",
        "bert_config_file": config, "canaries_file": folder / "canaries.json",
        "max_seq_length": LENGTHS["max_seq_length"], **names,
    }  # fmt: skip
    return Trained(folder, flags, members, others)


def _run(module: str, **flags: object) -> None:
    assert exit_status_here(module, **flags) == 0, module


def _document(rng: random.Random) -> str:
    one = rng.choice
    return (
        f"The {one(_SUBJECTS)} was {one(_STATES)} and had {one(_SIGNS)} of the {one(_PARTS)}.\n"
        f"{one(_DRUGS)} {rng.randint(10, 99)} and {one(_DRUGS)} {rng.randint(10, 99)} were given "
        f"for the {one(_SIGNS)}.\n"
        f"The {one(_PARTS)} was {one(_STATES)} and the {one(_SUBJECTS)} went home."
    )


def _write_vocabulary(path: Path, texts: list[Path]) -> None:
    """Writes every word of texts, and pairs of digits, of which a secret has two."""
    words = {word for text in texts for word in BasicTokenizer(False).tokenize(text.read_text())}
    pairs = [f"{number:02}" for number in range(100)]
    entries = [
        *SPECIAL_TOKENS,
        *sorted(word for word in words if not word.isdigit()),
        *pairs,
        *(f"##{pair}" for pair in pairs),
    ]
    path.write_text("".join(f"{entry}\n" for entry in entries))


def _write_config(path: Path, vocab_size: int) -> None:
    # Without dropout, so that a model this small learns something within a minute.
    config = {
        "vocab_size": vocab_size, "hidden_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4, "intermediate_size": 128, "max_position_embeddings": 32,
        "type_vocab_size": 2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "hidden_act": "gelu", "initializer_range": 0.02,
    }  # fmt: skip
    path.write_text(json.dumps(config))
