"""The model card of a converted model, from what lies beside its checkpoint and its data.

Only numbers and settings known by name are taken over, never a text: what is read here was made
from notes.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bert_clinical.checkpoint import checkpoint_step
from bert_clinical.transformers_conversion import WrittenModel

_HYPERPARAMETERS = (
    "max_seq_length",
    "max_predictions_per_seq",
    "train_batch_size",
    "learning_rate",
    "num_train_steps",
    "num_warmup_steps",
    "gradient_accumulation_steps",
    "precision",
    "random_seed",
)
_DATA_SETTINGS = (
    "do_lower_case",
    "do_whole_word_mask",
    "masked_lm_prob",
    "short_seq_prob",
    "dupe_factor",
    "random_seed",
)
_EVALUATION = (
    "global_step",
    "loss",
    "masked_lm_accuracy",
    "masked_lm_loss",
    "next_sentence_accuracy",
    "next_sentence_loss",
)
_GELU = {
    "tanh": "the tanh approximation (`gelu_new`)",
    "erf": "the exact erf form (`gelu`)",
}


def write_model_card(written: WrittenModel) -> None:
    """Writes `README.md` into a folder that is being written."""
    (written.folder / "README.md").write_text(compose(written), encoding="utf-8")


def compose(written: WrittenModel) -> str:
    """Returns the card as Markdown; what no file tells is left out."""
    source = Path(written.prefix).parent
    run = _read_object(source / "pretraining_run.json")
    settings = _object(run.get("flags"))
    sidecars = list(_sidecars(settings.get("input_file")))
    manifests = list(_manifests(sidecars))
    casing = "lower-cased" if written.do_lower_case else "cased"
    config = written.config
    base = settings.get("init_checkpoint")
    step = checkpoint_step(written.prefix)
    model = [
        ("Architecture", f"BERT, {config.num_hidden_layers} layers, width {config.hidden_size}, "
         f"{config.num_attention_heads} heads, {written.parameters:,} parameters"),
        ("Vocabulary", f"{config.vocab_size:,} WordPieces, {casing}"),
        ("Longest sequence", f"{config.max_position_embeddings} WordPieces"),
        ("Activation", _GELU[written.gelu] if config.activation_name() == "gelu"
         else config.activation_name()),
        ("Weights stored in", written.dtype),
        ("Heads left out", ", ".join(f"`{name}`" for name in written.match.missing_groups)),
        ("Converted from", f"`{Path(written.prefix).name}`, step {step:,}"),
        ("Base model", f"`{_last_parts(base)}`" if isinstance(base, str) and base else ""),
    ]  # fmt: skip
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: fill-mask",
        "tags:",
        "- bert",
        "- clinical",
        "---",
        "",
        "# A BERT pretrained with bert-clinical",
        "",
        *_table("Model", model),
        *_table("Training", _known(settings, _HYPERPARAMETERS)),
        *_table("Evaluation", _evaluation(source / "eval_results.txt", step)),
        *_table("Examples", _example_rows(sidecars)),
        *_table("Notes", _note_rows(manifests)),
        *_table("Made with", _versions(run)),
        "## Who may have it",
        "",
        "Weights trained on MIMIC notes are derived from them and fall under the data use",
        "agreement of PhysioNet: they may go to people who hold that agreement themselves, and are",
        "not to be published without regard to it. For notes of another source its owner's rules",
        "hold.",
        "",
        "## Use",
        "",
        "```python",
        "from transformers import AutoModel, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")',
        'model = AutoModel.from_pretrained("PATH_OF_THIS_FOLDER")',
        "```",
        "",
        "The tokenizer gives the ids that the model was trained with, but for two things: special",
        "tokens such as `[MASK]` are recognised in a text, and words of 101 to 200 characters are",
        "`[UNK]`.",
    ]
    return "\n".join(lines) + "\n"


def _table(title: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    body = [f"| {name} | {value} |" for name, value in rows if value]
    return [f"## {title}", "", "| | |", "|---|---|", *body, ""] if body else []


def _known(values: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, str]]:
    """Returns the values of known settings that are numbers, yes or no, or a short word."""
    rows = []
    for name in names:
        value = values.get(name)
        if isinstance(value, bool | int | float) or (
            isinstance(value, str) and value.isidentifier()
        ):
            rows.append((f"`{name}`", str(value)))
    return rows


def _evaluation(path: Path, step: int) -> list[tuple[str, str]]:
    """Returns the results of an evaluation, none if it was one of another step."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    pairs = (line.partition(" = ") for line in text.splitlines())
    found = {name.strip(): value.strip() for name, _, value in pairs}
    if found.get("global_step") != str(step):
        return []
    return [(f"`{name}`", _number(found[name])) for name in _EVALUATION if name in found]


def _number(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return ""
    return f"{int(value):,}" if value.is_integer() and "." not in text else f"{value:.4f}"


def _example_rows(sidecars: list[dict[str, Any]]) -> list[tuple[str, str]]:
    if not sidecars:
        return []
    rows = [("Files", str(len(sidecars)))]
    for label, names in (
        ("Examples", ("examples", "num_examples", "instances")),
        ("Documents", ("documents", "num_documents")),
    ):
        counts = [_first_number(sidecar, names) for sidecar in sidecars]
        if all(count is not None for count in counts):
            rows.append((label, f"{sum(count or 0 for count in counts):,}"))
    return rows + _known(_object(sidecars[0].get("flags")) or sidecars[0], _DATA_SETTINGS)


def _note_rows(manifests: list[dict[str, Any]]) -> list[tuple[str, str]]:
    totals: dict[str, int] = {}
    categories: set[str] = set()
    for manifest in manifests:
        counts = _object(manifest.get("counts"))
        for name in ("notes", "sections", "sentences", "words"):
            if isinstance(counts.get(name), int):
                totals[name] = totals.get(name, 0) + counts[name]
        categories |= set(_object(manifest.get("categories")))
    rows = [(name.capitalize(), f"{count:,}") for name, count in totals.items()]
    rows += [("Categories", str(len(categories)))] if categories else []
    settings = _object(manifests[0].get("flags")) if manifests else {}
    return rows + _known(settings, ("section_rules", "sentence_splitter", "spacy_model"))


def _versions(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = {
        name: importlib.metadata.version(name) for name in ("bert-clinical", "tensorflow", "numpy")
    }
    found |= {
        name: value
        for name, value in _object(run.get("versions")).items()
        if name in found and isinstance(value, str) and len(value) < 30
    }
    return list(found.items())


def _sidecars(input_file: Any) -> Iterable[dict[str, Any]]:
    """Yields the sidecars of the training data, each with its path under `_path`."""
    patterns = input_file.split(",") if isinstance(input_file, str) else input_file or []
    for pattern in patterns:
        path = Path(str(pattern))
        for data in sorted(path.parent.glob(path.name)) if path.name else []:
            value = _read_object(data.with_name(data.name + ".json"))
            if value:
                yield {**value, "_path": data}


def _manifests(sidecars: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Yields each manifest.json that lies beside a text file a sidecar names as its input."""
    folders = []
    for sidecar in sidecars:
        for path in _input_paths(sidecar):
            if path.parent not in folders:
                folders.append(path.parent)
    for folder in folders:
        value = _read_object(folder / "manifest.json")
        if value:
            yield value


def _input_paths(sidecar: Mapping[str, Any]) -> Iterable[Path]:
    """Yields the text files that a sidecar names, as a list, an object each, or with commas."""
    named = [sidecar.get(name) for name in ("input_files", "inputs", "input_file")]
    for value in (*named, _object(sidecar.get("flags")).get("input_file")):
        entries: Any = value.split(",") if isinstance(value, str) else value
        for entry in entries if isinstance(entries, list) else []:
            name = entry.get("path", entry.get("name")) if isinstance(entry, dict) else entry
            if isinstance(name, str):
                yield Path(name) if "/" in name else sidecar["_path"].parent / name


def _first_number(value: Mapping[str, Any], names: Iterable[str]) -> int | None:
    for source in (value, _object(value.get("counts"))):
        for name in names:
            if isinstance(source.get(name), int):
                return source[name]
    return None


def _last_parts(path: str) -> str:
    """Returns folder and name of a checkpoint, without the machine's own paths."""
    return "/".join(Path(path).parts[-2:]).replace("`", "")


def _read_object(path: Path) -> dict[str, Any]:
    """Returns a JSON object; an empty one where there is none, as a card can do without."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return _object(value)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
