"""What is computed in PyTorch and transformers, for `PyTorchProcess` to call.

Takes paths and NumPy arrays and answers with NumPy arrays. Imports no TensorFlow, and PyTorch only
inside the functions, so that the calling process can import this module too.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.common.errors import UserError, one_line


def model_outputs(
    folder: Path, batch: Mapping[str, np.ndarray], may_lack: Sequence[str]
) -> dict[str, np.ndarray]:
    """Returns what `BertForPreTraining` answers with a folder's weights in float32.

    Args:
      folder: holds config.json and the weights.
      batch: int32 [batch_size, seq_length] `input_ids`, `input_mask` and `segment_ids`.
      may_lack: heads that the folder need not hold, by the prefixes of their names.

    Returns:
      Float32 "hidden states" [layers + 1, batch_size, seq_length, hidden_size], "pooled output"
      [batch_size, hidden_size], "masked LM logits" [batch_size * seq_length, vocab_size] and "next
      sentence logits" [batch_size, 2].

    Raises:
      UserError: transformers finds weights missing or unexpected.
    """
    torch, transformers = quiet_transformers()
    model, info = transformers.BertForPreTraining.from_pretrained(
        str(folder), output_loading_info=True, local_files_only=True, dtype=torch.float32
    )
    odd = [
        key
        for key in (*info["missing_keys"], *info["unexpected_keys"])
        if not key.startswith(tuple(may_lack))
    ]
    if odd:
        raise UserError(
            f"{folder}: transformers finds {len(odd)} weight(s) missing or unexpected, the first "
            f"{odd[0]}; please report this"
        )
    model.eval()
    with torch.no_grad():
        encoded = model.bert(
            input_ids=torch.tensor(batch["input_ids"], dtype=torch.long),
            attention_mask=torch.tensor(batch["input_mask"], dtype=torch.long),
            token_type_ids=torch.tensor(batch["segment_ids"], dtype=torch.long),
            output_hidden_states=True,
        )
        lm_logits, sentence_logits = model.cls(encoded.last_hidden_state, encoded.pooler_output)
    return {
        "hidden states": torch.stack(encoded.hidden_states).numpy(),
        "pooled output": encoded.pooler_output.numpy(),
        "masked LM logits": lm_logits.reshape(-1, lm_logits.shape[-1]).numpy(),
        "next sentence logits": sentence_logits.numpy(),
    }


def token_ids(folder: Path, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids that a folder's tokenizer gives for texts, without special tokens."""
    _, transformers = quiet_transformers()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    return tokenizer(list(texts), add_special_tokens=False, truncation=False)["input_ids"]


def tensor_shapes(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors in files of PyTorch's own format.

    Raises:
      UserError: a file cannot be read as weights only, or holds something else than tensors.
    """
    return {name: tuple(value.shape) for name, value in _load(files).items()}


def tensors(files: Sequence[Path], names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields names and float32 arrays of files of PyTorch's own format.

    Raises:
      UserError: as `tensor_shapes` does, or a tensor holds no floating-point numbers.
    """
    torch = _torch()
    loaded = _load(files)
    for name in names:
        if not loaded[name].is_floating_point():
            raise UserError(f"{files[0]}: {name} holds no floating-point numbers")
        yield name, loaded[name].to(torch.float32).contiguous().numpy()


def quiet_transformers() -> tuple[Any, Any]:
    """Imports PyTorch and transformers, and turns off what the latter would say.

    Raises:
      UserError: they are installed and cannot be imported.
    """
    torch = _torch()
    try:
        import transformers
    except (ImportError, OSError) as error:
        raise _broken("transformers", error) from None
    transformers.utils.logging.set_verbosity(transformers.utils.logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    return torch, transformers


def _torch() -> Any:
    try:
        import torch
    except (ImportError, OSError) as error:
        raise _broken("torch", error) from None
    return torch


def _broken(package: str, error: Exception) -> UserError:
    # Nothing has been read yet that the message could quote.
    return UserError(
        f"the package {package} is installed and cannot be imported ({one_line(str(error))}); "
        "install it again"
    )


def _load(files: Sequence[Path]) -> dict[str, Any]:
    torch = _torch()
    merged: dict[str, Any] = {}
    for path in files:
        try:
            # Only weights: a pickle may otherwise run any code.
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError):
            raise UserError(
                f"{path}: PyTorch cannot read it as weights only; expected an unbroken file of "
                "tensors by name"
            ) from None
        if not isinstance(loaded, dict) or not all(
            isinstance(value, torch.Tensor) for value in loaded.values()
        ):
            raise UserError(f"{path}: expected tensors by name, as transformers saves them")
        merged |= loaded
    return merged
