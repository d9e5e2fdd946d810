"""The model card of a converted model, from what lies beside its checkpoint and its data.

Only numbers and settings known by name are taken over, never a text: what is read here was made
from notes.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bert_clinical.conversion.convert import WrittenModel
from bert_clinical.nn.variables import MASKED_LM_HEAD
from bert_clinical.weights import audited, checkpoint
from bert_clinical.weights.checkpoint import checkpoint_step
from bert_clinical.weights.provenance import (
    RUN_FILE,
    as_object,
    canaries_in,
    data_sidecars,
    earlier_runs,
    extensions,
    read_extension,
    was_evaluated,
)
from bert_clinical.weights.transformers_tokenizer import known_differences
from data_prep.canaries import record as canary_record
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object

_HYPERPARAMETERS = (
    "max_seq_length",
    "max_predictions_per_seq",
    "train_batch_size",
    "learning_rate",
    "num_train_steps",
    "num_warmup_steps",
    "learning_rate_schedule",
    "decay_steps",
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
_WHO_MAY_HAVE_IT = (
    "## Who may have it",
    "",
    "Weights trained on MIMIC notes are derived from them and fall under the data use",
    "agreement of PhysioNet: they may go to people who hold that agreement themselves, and are",
    "not to be published without regard to it. For notes of another source its owner's rules",
    "hold.",
    "",
)


def write_model_card(written: WrittenModel) -> None:
    """Writes `README.md` into a folder that is being written."""
    (written.folder / "README.md").write_text(compose(written), encoding="utf-8")


def compose(written: WrittenModel) -> str:
    """Returns the card as Markdown; what no file tells is left out."""
    source = Path(written.prefix).parent
    run = _read_object(source / RUN_FILE) or read_extension(source)
    earlier = earlier_runs(run)
    settings = as_object((*earlier, run)[0].get("flags"))
    sidecars = data_sidecars(run, training_only=True)
    casing = "lower-cased" if written.do_lower_case else "cased"
    config = written.config
    base = settings.get("init_checkpoint")
    step = checkpoint_step(written.prefix)
    model = [
        ("Architecture", f"BERT, {config.num_hidden_layers} layers, width {config.hidden_size}, "
         f"{config.num_attention_heads} heads, {written.parameters:,} parameters"),
        ("Vocabulary", f"{config.vocab_size:,} WordPieces, {casing}"),
        *_extension_rows(run),
        ("Longest sequence", _longest(written)),
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
        f"pipeline_tag: {_pipeline(written)}",
        "tags:",
        "- bert",
        "- clinical",
        "---",
        "",
        "# A BERT pretrained with bert-clinical",
        "",
        *_table("Model", model),
        *_phases(earlier),
        *_table(
            f"Training, phase {len(earlier) + 1}" if earlier else "Training", _training(run, step)
        ),
        *_table(
            "Evaluation",
            _evaluation(source / "eval_results.txt", step)
            if was_evaluated(run, written.prefix)
            else [],
        ),
        *_table("Examples", _example_rows(sidecars)),
        *_table("Notes", [*_note_rows(_manifests(sidecars)), *_canary_row(sidecars, earlier)]),
        *_table("Made with", _versions(run)),
        *_memorisation(written),
        *_WHO_MAY_HAVE_IT,
        *_use(written.do_lower_case),
    ]
    return "\n".join(lines) + "\n"


def _use(do_lower_case: bool) -> list[str]:
    """Returns how the folder is loaded, and what to know of its tokenizer."""
    return [
        "## Use",
        "",
        "```python",
        "from transformers import AutoModel, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")',
        'model = AutoModel.from_pretrained("PATH_OF_THIS_FOLDER")',
        "```",
        "",
        "The tokenizer gives the ids that the model was trained with, but for this:",
        "",
        *(f"- {difference}" for difference in known_differences(do_lower_case)),
        "",
        "Where both texts of a pair are cut and an odd number of WordPieces fits, the programs",
        "that trained it keep one more of the first text, transformers one more of the longer",
        "text, or of the second where both are of one length.",
    ]


def _memorisation(written: WrittenModel) -> list[str]:
    """Returns what an audit of this checkpoint found, nothing where there is none."""
    audit = audited.find_audit(Path(written.prefix).parent)
    if not audit:
        return []
    weights = checkpoint.read_tensors(written.prefix, written.match.found)
    is_its_own = audited.is_of(audit, audited.weights_digest(weights))
    return audited.card_section(audit) if is_its_own else []


def _pipeline(written: WrittenModel) -> str:
    """Returns the task that transformers can run with the heads that are there."""
    lacks_words = MASKED_LM_HEAD in written.match.missing_groups
    return "feature-extraction" if lacks_words else "fill-mask"


def _longest(written: WrittenModel) -> str:
    positions = f"{written.config.max_position_embeddings} WordPieces"
    if written.trained_length is None:
        return positions
    return (
        f"{positions}; trained on sequences of at most {written.trained_length} WordPieces, which "
        "is the tokenizer's `model_max_length`"
    )


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


def _phases(earlier: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a table for each run whose checkpoint the next one began from."""
    lines = []
    for number, run in enumerate(earlier, 1):
        step, name = run.get("step"), run.get("checkpoint")
        rows = _known(as_object(run.get("flags")), _HYPERPARAMETERS)
        if isinstance(step, int) and isinstance(name, str):
            rows.append(("Ended with", f"`{_last_parts(name)}`, step {step:,}"))
        lines += _table(f"Training, phase {number}", rows)
    return lines


def _extension_rows(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns what each extension of the vocabulary added, as far as its record says."""
    rows = []
    for found in extensions(run):
        names = ("new_entries", "words", "word_pieces_before", "word_pieces")
        numbers = [value for name in names if isinstance(value := found.get(name), int)]
        if len(numbers) == len(names) and numbers[1] > 0:
            entries, words, before, after = numbers
            told = (
                f"{entries:,}, chosen on {words:,} words: {before / words:.3f} WordPieces a word "
                f"before, {after / words:.3f} after"
            )
            rows.append(("Entries of its own", told))
    return rows


def _training(run: Mapping[str, Any], step: int) -> list[tuple[str, str]]:
    return [
        *_known(as_object(run.get("flags")), _HYPERPARAMETERS),
        *_last_step(run, step),
        *_best(run, step),
        *_speed(run),
    ]


def _last_step(run: Mapping[str, Any], step: int) -> list[tuple[str, str]]:
    """Returns the losses of a run's last step, none for an earlier checkpoint of the run."""
    final = as_object(run.get("final"))
    if run.get("steps") != step:
        return []
    return [
        (f"{name} of the last step", f"{final[name]:.4f}")
        for name in ("loss", "masked_lm_loss", "next_sentence_loss")
        if isinstance(final.get(name), int | float)
    ]


def _best(run: Mapping[str, Any], step: int) -> list[tuple[str, str]]:
    """Returns the held-out loss that made this checkpoint the best of its run, if it is that."""
    best = as_object(run.get("best"))
    loss = best.get("masked_lm_loss")
    if best.get("step") != step or not isinstance(loss, int | float):
        return []
    return [("Best of the run on held-out data", f"`masked_lm_loss` {loss:.4f}")]


def _speed(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    speed = as_object(run.get("speed"))
    rows = []
    for name, title, form in (
        ("examples_per_second", "Examples a second", ",.1f"),
        ("tokens_per_second", "WordPieces a second, padding not counted", ",.0f"),
        ("mfu", "Share of the devices' peak (MFU)", ".1%"),
    ):
        if isinstance(speed.get(name), int | float):
            rows.append((title, format(speed[name], form)))
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
    rows = [("Files", f"{len(sidecars):,}")]
    # The outputs of one run share a description, which counts all of them.
    distinct = {json.dumps(as_object(sidecar), sort_keys=True): sidecar for sidecar in sidecars}
    for name in ("documents", "words", "wordpieces", "instances"):
        found = [as_object(sidecar.get("counts")).get(name) for sidecar in distinct.values()]
        counts = [count for count in found if isinstance(count, int)]
        if len(counts) == len(found):
            rows.append((name.capitalize(), f"{sum(counts):,}"))
    return rows + _known(as_object(sidecars[0].get("flags")), _DATA_SETTINGS)


def _note_rows(manifests: list[dict[str, Any]]) -> list[tuple[str, str]]:
    totals: dict[str, int] = {}
    categories: set[str] = set()
    for manifest in manifests:
        counts = as_object(manifest.get("counts"))
        for name in ("notes", "sections", "sentences", "words"):
            if isinstance(counts.get(name), int):
                totals[name] = totals.get(name, 0) + counts[name]
        categories |= set(as_object(manifest.get("categories")))
    rows = [(name.capitalize(), f"{count:,}") for name, count in totals.items()]
    rows += [("Categories", str(len(categories)))] if categories else []
    settings = as_object(manifests[0].get("flags")) if manifests else {}
    return rows + _known(settings, ("section_rules", "sentence_splitter", "spacy_model"))


def _canary_row(
    sidecars: list[dict[str, Any]], earlier: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """Returns the canaries in the text of the last run, else of one before."""
    before = [canary_record.combined([run.get(canary_record.KEY)]) for run in reversed(earlier)]
    said = next(filter(None, [canaries_in(sidecars).get(canary_record.KEY), *before]), None)
    return [("Canaries", canary_record.line(said))] if said else []


def _versions(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = {name: importlib.metadata.version(name) for name in ("bert-clinical", "tensorflow")}
    recorded = as_object(run.get("versions")).get("tensorflow")
    rows = [(f"{name}, conversion", version) for name, version in found.items()]
    if isinstance(recorded, str) and len(recorded) < 30:
        rows.append(("tensorflow, training", recorded))
    return rows


def _manifests(sidecars: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns each manifest.json that lies beside a text file a sidecar names as its input."""
    paths = [
        Path(entry["path"])
        for sidecar in sidecars
        for entry in sidecar.get("inputs") or []
        if isinstance(entry, dict) and isinstance(entry.get("path"), str)
    ]
    found = [
        _read_object(folder / "manifest.json") for folder in {path.parent: 0 for path in paths}
    ]
    return [manifest for manifest in found if manifest]


def _last_parts(path: str) -> str:
    """Returns folder and name of a checkpoint, or a folder's name, without the machine's paths."""
    parts = Path(path).parts[-2:] if ".ckpt" in Path(path).name else Path(path).parts[-1:]
    return "/".join(parts).replace("`", "")


def _read_object(path: Path) -> dict[str, Any]:
    """Returns a JSON object; an empty one where there is none, as a card can do without."""
    try:
        return read_json_object(path)
    except UserError:
        return {}
