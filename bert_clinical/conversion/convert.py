"""Models between Google's name-based checkpoints and transformers folders, without PyTorch.

Names come from an explicit list and every tensor is accounted for. transformers' own converter,
gone since 4.49, let the Adam moments of BioBERT's checkpoint overwrite weights of the same shape.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical import __version__
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.variables import (
    HEADS,
    MASKED_LM_HEAD,
    NEXT_SENTENCE_HEAD,
    bert_variable_shapes,
)
from bert_clinical.weights.checkpoint import iterate_tensors, write_checkpoint
from bert_clinical.weights.decoder import read_decoder
from bert_clinical.weights.drawing import truncated_normal
from bert_clinical.weights.googles_format import (
    CHECKPOINT_NAME,
    CONFIG_FILE,
    require_googles_rules,
    require_tied,
)
from bert_clinical.weights.matching import (
    POOLER,
    Match,
    compare_variables,
    match_folder,
    require_match,
)
from bert_clinical.weights.provenance import recorded_length
from bert_clinical.weights.safetensors_files import DTYPES, write_weights
from bert_clinical.weights.stored_tokenizer import read_tokenizer
from bert_clinical.weights.transformers_folder import FolderWeights, open_weights
from bert_clinical.weights.transformers_names import (
    from_transformers_config,
    to_transformers_config,
    transformers_name,
)
from bert_clinical.weights.transformers_tokenizer import VOCAB_FILE, write_tokenizer
from bert_clinical.wordpieces.model_tokenizer import TokenizerRules
from bert_clinical.wordpieces.vocabulary import PAD, case_mismatch
from data_prep.common.errors import UserError
from data_prep.common.json_files import read_json_object
from data_prep.common.output_folder import complete_folder, read_record

_log = logging.getLogger(__name__)

TO_TRANSFORMERS = "convert_to_transformers"
FROM_TRANSFORMERS = "convert_from_transformers"

_ARCHITECTURES = {
    (): "BertForPreTraining",
    (NEXT_SENTENCE_HEAD,): "BertForMaskedLM",
    (MASKED_LM_HEAD,): "BertForNextSentencePrediction",
    HEADS: "BertModel",
}


@dataclass(frozen=True)
class WrittenModel:
    """What a conversion to transformers wrote, as handed to its check and its model card.

    Attributes:
      folder: where the files lie until they are complete.
      prefix: the checkpoint.
      config: Google's config.
      gelu: "tanh" or "erf".
      dtype: of the stored weights.
      do_lower_case: of the tokenizer.
      match: which of the checkpoint's tensors were used.
      parameters: numbers in the weights.
      trained_length: WordPieces of the longest sequence of its training, None where no file says
        it or it is all that the model takes.
    """

    folder: Path
    prefix: str
    config: BertConfig
    gelu: str
    dtype: str
    do_lower_case: bool
    match: Match
    parameters: int
    trained_length: int | None = None


def convert_to_transformers(
    *,
    prefix: str,
    config: BertConfig,
    tokens: Sequence[str],
    do_lower_case: bool,
    gelu: str,
    output_dir: Path,
    allow_missing_heads: bool = False,
    dtype: str = "float32",
    max_shard_bytes: int = 50 * 10**9,
    before_commit: Sequence[Callable[[WrittenModel], None]] = (),
) -> WrittenModel:
    """Writes a checkpoint as a transformers folder.

    Args:
      prefix: the checkpoint.
      config: its model.
      tokens: its vocabulary in the order of the ids.
      do_lower_case: whether its texts were lower-cased.
      gelu: the form it was trained with, "tanh" or "erf".
      output_dir: appears only when everything is written and checked.
      allow_missing_heads: accept a checkpoint without one head or both.
      dtype: "float32", "float16" or "bfloat16".
      max_shard_bytes: most bytes of weights in a file.
      before_commit: called with the written folder before it takes its final name; what they raise
        ends the conversion without an output.

    Raises:
      UserError: the checkpoint does not fit the config, or the output cannot be written.
    """
    wanted = bert_variable_shapes(config)
    match = _match_checkpoint(wanted, prefix)
    if match.missing_groups and not allow_missing_heads:
        raise UserError(
            f"{prefix}: holds no {' and no '.join(match.missing_groups)}; expected both heads, or "
            "--allow_missing_heads for an encoder without them"
        )
    names = {variable: transformers_name(variable) for variable in match.found}
    shapes = {
        new.name: wanted[variable][::-1] if new.transposed else wanted[variable]
        for variable, new in names.items()
    }

    def weights() -> Iterator[tuple[str, np.ndarray]]:
        for variable, tensor in iterate_tensors(prefix, match.found):
            new = names[variable]
            yield new.name, tensor.T if new.transposed else tensor

    trained_length = recorded_length(Path(prefix).parent, config.max_position_embeddings)
    record = {"version": __version__, "gelu": gelu, "do_lower_case": do_lower_case}
    with complete_folder(output_dir, TO_TRANSFORMERS, record) as folder:
        write_weights(folder, shapes, weights(), dtype=dtype, max_shard_bytes=max_shard_bytes)
        settings = to_transformers_config(
            config,
            gelu=gelu,
            architecture=_ARCHITECTURES[match.missing_groups],
            dtype=dtype,
            pad_token_id=tokens.index(PAD),
        )
        (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
        write_tokenizer(
            folder,
            tokens,
            rules=TokenizerRules(do_lower_case),
            max_length=trained_length or config.max_position_embeddings,
        )
        written = WrittenModel(
            folder=folder,
            prefix=prefix,
            config=config,
            gelu=gelu,
            dtype=dtype,
            do_lower_case=do_lower_case,
            match=match,
            parameters=_parameters(wanted, match),
            trained_length=trained_length,
        )
        for step in before_commit:
            step(written)
    return written


def read_conversion(
    *,
    prefix: str,
    config: BertConfig,
    tokens: Sequence[str],
    do_lower_case: bool,
    gelu: str,
    output_dir: Path,
) -> WrittenModel:
    """Returns what an earlier `convert_to_transformers`, called with these, wrote; for its check.

    Raises:
      UserError: the folder is no output of `convert_to_transformers`, or one of another
        vocabulary, or the checkpoint does not fit the config.
    """
    if read_record(output_dir).get("program") != TO_TRANSFORMERS:
        raise UserError(f"{output_dir}: expected a folder that {TO_TRANSFORMERS} has written")
    stored = read_tokenizer(output_dir, config.vocab_size)
    if stored.tokens != list(tokens):
        raise UserError(
            f"{output_dir}: its {VOCAB_FILE} is not the file at --vocab_file; name the vocabulary "
            "that the folder was made with, or convert again"
        )
    dtype = read_json_object(output_dir / "config.json").get("dtype")
    if dtype not in DTYPES:
        raise UserError(
            f"{output_dir / 'config.json'}: found dtype {dtype!r}, expected one of "
            f"{', '.join(DTYPES)}; convert again"
        )
    wanted = bert_variable_shapes(config)
    match = _match_checkpoint(wanted, prefix)
    return WrittenModel(
        folder=output_dir,
        prefix=prefix,
        config=config,
        gelu=gelu,
        dtype=dtype,
        do_lower_case=do_lower_case,
        match=match,
        parameters=_parameters(wanted, match),
    )


def _match_checkpoint(wanted: dict[str, tuple[int, ...]], prefix: str) -> Match:
    match = compare_variables(wanted, prefix)
    log_match(wanted, match)
    require_match(match, prefix)
    return match


def _parameters(wanted: dict[str, tuple[int, ...]], match: Match) -> int:
    return sum(int(np.prod(wanted[name])) for name in match.found)


def convert_from_transformers(
    *, transformers_dir: Path, output_dir: Path, init_missing_pooler: bool = False
) -> None:
    """Writes a BERT of transformers as `bert_model.ckpt`, `bert_config.json` and `vocab.txt`.

    Args:
      transformers_dir: the folder, with safetensors or `pytorch_model.bin`.
      output_dir: appears only when everything is written.
      init_missing_pooler: give a model without pooler (as `BertForMaskedLM` is saved) a new one,
        drawn as for a new model.

    Raises:
      UserError: the folder holds no complete BERT of Google's architecture.
    """
    where = transformers_dir / "config.json"
    settings = read_json_object(where)
    config, gelu = from_transformers_config(settings, str(where))
    tokenizer = read_tokenizer(transformers_dir, config.vocab_size)
    tokens, do_lower_case = tokenizer.tokens, tokenizer.do_lower_case
    require_googles_rules(tokens, tokenizer.rules(do_lower_case is True), transformers_dir)
    source = open_weights(transformers_dir)
    wanted = bert_variable_shapes(config)
    variable_of = _match_weights(wanted, source, transformers_dir, init_missing_pooler)
    require_tied(read_decoder(source, settings, transformers_dir) is None, transformers_dir)
    variables = {}
    for name, weight in source.read(list(variable_of)):
        if not np.isfinite(weight).all():
            raise UserError(f"{transformers_dir}: {name} holds NaN or infinity")
        variable = variable_of[name]
        variables[variable] = weight.T if transformers_name(variable).transposed else weight
    if f"{POOLER}/dense/kernel" not in variables:
        variables |= _new_pooler(config)
    record: dict[str, Any] = {
        "version": __version__, "gelu": gelu, "do_lower_case": do_lower_case,
    }  # fmt: skip
    if (length := tokenizer.trained_length(config.max_position_embeddings)) is not None:
        record["max_seq_length"] = length
    with complete_folder(output_dir, FROM_TRANSFORMERS, record) as folder:
        write_checkpoint(folder / CHECKPOINT_NAME, variables)
        (folder / CONFIG_FILE).write_text(config.to_json_string(), "utf-8")
        (folder / VOCAB_FILE).write_text("".join(f"{token}\n" for token in tokens), "utf-8")
    if gelu is not None:
        _log.info("Train it with --gelu=%s.", gelu)
    if do_lower_case is not None:
        _advise_on_case(transformers_dir, tokens, do_lower_case)


def _advise_on_case(folder: Path, tokens: Sequence[str], do_lower_case: bool) -> None:
    mismatch = case_mismatch(tokens, do_lower_case)
    if mismatch is None:
        _log.info("Make its examples with --do_lower_case=%s.", do_lower_case)
        return
    _log.warning(
        "%s: its tokenizer says do_lower_case %s, but in its vocabulary %s; make its examples with "
        "--do_lower_case=%s", folder, str(do_lower_case).lower(), mismatch, not do_lower_case,
    )  # fmt: skip


def log_match(wanted: dict[str, tuple[int, ...]], match: Match) -> None:
    """Logs a table of what was found in a checkpoint and what becomes of it."""
    groups = {"encoder": "bert/", "masked LM head": MASKED_LM_HEAD, "next sentence head": HEADS[1]}
    _log.info("%-28s %8s %9s", "tensors", "found", "expected")
    for label, prefix in groups.items():
        found = sum(name.startswith(prefix) for name in match.found)
        _log.info("%-28s %8d %9d", label, found, sum(name.startswith(prefix) for name in wanted))
    kinds = sorted({name.rpartition("/")[2] for name in match.slots_ignored})
    for label, names, detail in (
        ("optimizer slots, left out", match.slots_ignored, ", ".join(kinds)),
        ("step counters, left out", match.step_like, ", ".join(match.step_like)),
        ("missing", match.missing, ", ".join(match.missing_groups)),
        ("of another shape", match.misshapen, ""),
        ("unknown", match.unknown, ""),
    ):
        _log.info("%-28s %8d %9s %s", label, len(names), "", detail)


def _match_weights(
    wanted: dict[str, tuple[int, ...]],
    source: FolderWeights,
    folder: Path,
    init_missing_pooler: bool,
) -> dict[str, str]:
    """Returns which variable each weight is, by its name in the files, and logs what is absent."""
    match = match_folder(wanted, source.shapes, folder)
    if POOLER in match.missing_groups and not init_missing_pooler:
        raise UserError(
            f"{folder}: the model has no pooler (as BertForMaskedLM is saved); give a folder with "
            "one, or --init_missing_pooler to start it afresh"
        )
    _log.info("%d weights found of %d.", len(match.names), len(wanted))
    for group in match.missing_groups:
        action = "drawn anew" if group == POOLER else "left out; training starts it afresh"
        _log.info("%s: absent, %s.", group, action)
    return match.names


def _new_pooler(config: BertConfig) -> dict[str, np.ndarray]:
    """Returns a pooler as a new model has it: a normal distribution cut at two deviations."""
    shape = (config.hidden_size, config.hidden_size)
    rng = np.random.default_rng(0)
    return {
        f"{POOLER}/dense/kernel": truncated_normal(rng, shape, config.initializer_range),
        f"{POOLER}/dense/bias": np.zeros(config.hidden_size, np.float32),
    }
