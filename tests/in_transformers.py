"""What tests ask transformers, as functions of paths and arrays that answer with arrays.

They run in a process without TensorFlow: call them through `tests.theirs`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert_clinical.weights.in_pytorch import quiet_transformers

TORCH_FILE = "pytorch_model.bin"


def save_model(folder: Path, kind: str, settings: Mapping[str, Any]) -> None:
    """Saves a random model as transformers does; biases and scales are no round numbers."""
    torch, transformers = quiet_transformers()
    torch.manual_seed(7)
    model = getattr(transformers, kind)(transformers.BertConfig(**settings))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(torch.randn_like(weight) * 0.1)
    model.save_pretrained(folder)


def save_again(folder: Path, kind: str, dtype: str, max_shard_size: str) -> None:
    """Saves a folder's model once more, in another type and in shards."""
    torch, transformers = quiet_transformers()
    model = getattr(transformers, kind).from_pretrained(folder).to(getattr(torch, dtype))
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size=max_shard_size)


def save_as_torch(
    folder: Path, changes: Mapping[str, np.ndarray | None] | None = None
) -> dict[str, np.ndarray]:
    """Puts `pytorch_model.bin` in the place of safetensors; returns what it held.

    Args:
      folder: the model.
      changes: tensors that are put in, or left out where None.
    """
    torch, _ = quiet_transformers()
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    kept = dict(weights)
    for name, value in (changes or {}).items():
        if value is None:
            del kept[name]
        else:
            kept[name] = torch.tensor(value)
    torch.save(kept, folder / TORCH_FILE)
    (folder / "model.safetensors").unlink()
    return {name: value.numpy() for name, value in weights.items()}


class Harmful:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("harm",))


def save_harmful(folder: Path) -> None:
    """Saves a pickle that would run code in the place of weights."""
    torch, _ = quiet_transformers()
    torch.save({"x": Harmful()}, folder / TORCH_FILE)


def loading(folder: Path, kind: str) -> dict[str, Any]:
    """Returns what transformers says of a folder that it loads as the class `kind`."""
    _, transformers = quiet_transformers()
    model, info = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    return {
        **{name: sorted(map(str, names)) for name, names in info.items()},
        "hidden_act": model.config.hidden_act,
        "architectures": model.config.architectures,
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def state(folder: Path, kind: str) -> dict[str, np.ndarray]:
    """Returns a model's tensors by their names, as float32."""
    _, transformers = quiet_transformers()
    model = getattr(transformers, kind).from_pretrained(folder)
    return {name: value.float().numpy() for name, value in model.state_dict().items()}


def rounded(value: np.ndarray, dtype: str) -> np.ndarray:
    """Returns float32 numbers as PyTorch rounds them to a type."""
    torch, _ = quiet_transformers()
    return torch.tensor(value).to(getattr(torch, dtype)).float().numpy()


def encode(
    folder: Path, batches: Sequence[Mapping[str, np.ndarray]], pooler: bool = True
) -> list[dict[str, np.ndarray]]:
    """Returns the hidden states [layers + 1, B, S, H] and the pooled output of each batch.

    Args:
      folder: the model.
      batches: integer [B, S] `input_ids`, and `attention_mask` and `token_type_ids` if any.
      pooler: whether the folder holds one.
    """
    torch, transformers = quiet_transformers()
    settings = {} if pooler else {"add_pooling_layer": False}
    model = transformers.BertModel.from_pretrained(folder, **settings).eval()
    answers = []
    with torch.no_grad():
        for batch in batches:
            inputs = {name: torch.tensor(value).long() for name, value in batch.items()}
            output = model(**inputs, output_hidden_states=True)
            answer = {"hidden_states": torch.stack(output.hidden_states).numpy()}
            if pooler:
                answer["pooled_output"] = output.pooler_output.numpy()
            answers.append(answer)
    return answers


def save_tokenizer(
    folder: Path,
    tokens: Sequence[str],
    settings: Mapping[str, Any],
    added: Sequence[Mapping[str, Any]] = (),
) -> int:
    """Saves a tokenizer as transformers does; returns how many tokens it knows.

    Args:
      folder: where to.
      tokens: of the vocabulary.
      settings: arguments of `BertTokenizer`.
      added: arguments of `AddedToken`s.
    """
    _, transformers = quiet_transformers()
    vocab = {token: number for number, token in enumerate(tokens)}
    tokenizer = transformers.BertTokenizer(vocab=vocab, **settings)
    tokenizer.add_tokens([transformers.AddedToken(**token) for token in added])
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def change_weights(folder: Path, kind: str, rows: int = 0, decoder: bool = False) -> None:
    """Saves a folder's model once more, with more rows of the embedding, or another decoder."""
    torch, transformers = quiet_transformers()
    torch.manual_seed(11)
    model = getattr(transformers, kind).from_pretrained(folder)
    if rows:
        model.resize_token_embeddings(rows)
    if decoder:
        model.config.tie_word_embeddings = False
        own = model.cls.predictions.decoder
        own.weight = torch.nn.Parameter(torch.randn_like(own.weight))
        own.bias = torch.nn.Parameter(torch.randn_like(own.bias))
    model.save_pretrained(folder)


def adamw(
    start: np.ndarray, gradients: Sequence[np.ndarray], rates: Sequence[float], decay: float
) -> np.ndarray:
    """Returns a weight after as many updates of PyTorch's AdamW, with Google's other settings."""
    torch, _ = quiet_transformers()
    weight = torch.nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.AdamW([weight], betas=(0.9, 0.999), eps=1e-6, weight_decay=decay)
    for gradient, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    return weight.detach().numpy()


def fine_tune(
    folder: Path, batches: Sequence[tuple[Mapping[str, np.ndarray], np.ndarray]], rate: float
) -> tuple[list[float], list[float]]:
    """Returns losses and norms of gradients of updates as transformers' Trainer makes them.

    It clips at 1, decays what is neither a bias nor of a layer normalization, and has the rate sink
    to 0 without warm-up; weight decay and epsilon are Google's.
    """
    torch, transformers = quiet_transformers()
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder).train()
    decayed: list[Any] = []
    others: list[Any] = []
    for name, value in model.named_parameters():
        (others if "bias" in name or "LayerNorm" in name else decayed).append(value)
    groups = [
        {"params": decayed, "weight_decay": 0.01},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, eps=1e-6)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 0, len(batches))
    losses, norms = [], []
    for batch, label_ids in batches:
        inputs = {name: torch.tensor(value).long() for name, value in batch.items()}
        loss = model(**inputs, labels=torch.tensor(label_ids).long()).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, norms


def masked_lm_logits(folder: Path, kind: str, input_ids: np.ndarray) -> np.ndarray:
    """Returns float32 [B, S, V] for integer [B, S]."""
    torch, transformers = quiet_transformers()
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    with torch.no_grad():
        return model(torch.tensor(input_ids).long()).logits.numpy()


def tokenize(folder: Path, texts: Sequence[Any], **settings: Any) -> dict[str, Any]:
    """Returns a folder's tokenizer's answer for texts or pairs, as lists, and what it is."""
    _, transformers = quiet_transformers()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return {
        **tokenizer(list(texts), **settings),
        "do_lower_case": tokenizer.do_lower_case,
        "model_max_length": tokenizer.model_max_length,
    }


def fill_mask(folder: Path, text: str, top_k: int) -> list[tuple[float, str]]:
    """Returns probabilities and WordPieces of the fill-mask pipeline, the likeliest first."""
    _, transformers = quiet_transformers()
    fill = transformers.pipeline("fill-mask", model=str(folder), tokenizer=str(folder))
    pieces = fill.tokenizer.convert_ids_to_tokens
    return [(answer["score"], pieces(answer["token"])) for answer in fill(text, top_k=top_k)]


def classify(folder: Path, pairs: Sequence[tuple[str, str]]) -> list[dict[str, float]]:
    """Returns each label's score for pairs of texts, by the text-classification pipeline."""
    _, transformers = quiet_transformers()
    pipeline = transformers.pipeline("text-classification", model=str(folder), top_k=None)
    answers = pipeline([{"text": first, "text_pair": second} for first, second in pairs])
    return [{entry["label"]: entry["score"] for entry in answer} for answer in answers]


def find_entities(folder: Path, texts: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Returns each text's entities, label and words, by the ner pipeline."""
    _, transformers = quiet_transformers()
    pipeline = transformers.pipeline("ner", model=str(folder), aggregation_strategy="first")
    return [
        [(entity["entity_group"], entity["word"]) for entity in pipeline(text)] for text in texts
    ]


def labels(folder: Path) -> dict[int, str]:
    """Returns the labels that a folder's config names."""
    _, transformers = quiet_transformers()
    return dict(transformers.AutoConfig.from_pretrained(folder).id2label)


def loss_and_gradients(
    folder: Path, kind: str, batch: Mapping[str, np.ndarray], label_ids: np.ndarray
) -> tuple[float, dict[str, np.ndarray], dict[str, Any]]:
    """Returns a batch's loss, its gradients by the parameters' names, and what loading said."""
    torch, transformers = quiet_transformers()
    model, info = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    inputs = {name: torch.tensor(value).long() for name, value in batch.items()}
    loss = model.eval()(**inputs, labels=torch.tensor(label_ids).long()).loss
    loss.backward()
    gradients = {name: value.grad.numpy() for name, value in model.named_parameters()}
    return loss.item(), gradients, {name: sorted(map(str, keys)) for name, keys in info.items()}


def exact_pretraining_gradients(
    settings: Mapping[str, Any],
    state: Mapping[str, np.ndarray],
    batch: Mapping[str, np.ndarray],
    lm_denominator: float,
) -> dict[str, np.ndarray]:
    """Returns the gradients of a batch's losses, computed in float64, by the parameters' names.

    Args:
      settings: of `BertConfig`.
      state: the weights by their names; tied ones once.
      batch: features by Google's names.
      lm_denominator: what the masked LM's losses are divided by; the others by their number.
    """
    torch, transformers = quiet_transformers()
    model = transformers.BertForPreTraining(transformers.BertConfig(**settings)).double().eval()
    exact = {name: torch.tensor(value).double() for name, value in state.items()}
    if (found := model.load_state_dict(exact, strict=False)).unexpected_keys:
        raise ValueError(f"transformers knows no {found.unexpected_keys}")
    given = {name: torch.tensor(value) for name, value in batch.items()}
    ids, mask, segments = (
        given[name].long() for name in ("input_ids", "input_mask", "segment_ids")
    )
    hidden, pooled = model.bert(ids, attention_mask=mask, token_type_ids=segments)[:2]
    places = given["masked_lm_positions"].long()[:, :, None].expand(-1, -1, hidden.shape[-1])
    logits, pairs = model.cls(torch.gather(hidden, 1, places), pooled)
    cross_entropy = torch.nn.functional.cross_entropy
    losses = cross_entropy(logits.mT, given["masked_lm_ids"].long(), reduction="none")
    labels = given["next_sentence_labels"].long().view(-1)
    loss = (losses * given["masked_lm_weights"]).sum() / lm_denominator
    (loss + cross_entropy(pairs, labels)).backward()
    return {name: value.grad.numpy() for name, value in model.named_parameters()}


def answers_are_finite(folder: Path, texts: Sequence[str], max_length: int) -> bool:
    """Tells whether a pretraining model's predictions for texts are all numbers."""
    torch, transformers = quiet_transformers()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForPreTraining.from_pretrained(folder)
    batch = tokenizer(
        list(texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt"
    )
    with torch.no_grad():
        return bool(torch.isfinite(model(**batch).prediction_logits).all())


def masked_lm(
    folder: Path, ids: np.ndarray, lengths: np.ndarray, positions: np.ndarray
) -> np.ndarray:
    """Returns float32 [N, P, V], natural logarithms of the masked LM's probabilities.

    Args:
      folder: the model.
      ids: integer [N, S], with [MASK] and padding in them.
      lengths: of each sequence without its padding.
      positions: integer [N, P].
    """
    torch, transformers = quiet_transformers()
    model = transformers.BertForMaskedLM.from_pretrained(folder).eval()
    mask = torch.arange(ids.shape[1])[None] < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor(ids).long(), attention_mask=mask.long()).logits
        chosen = logits[torch.arange(len(ids))[:, None], torch.tensor(positions).long()]
        return torch.log_softmax(chosen, dim=-1).numpy()
