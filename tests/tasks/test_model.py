"""The classifying layer, its gradients, the training loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bert_clinical.modeling import create_variables
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.tensorflow import tf
from bert_clinical.optimization import Schedule
from bert_clinical.tasks import model as tasks_model
from bert_clinical.tasks import training as fine_tuning
from bert_clinical.tasks.data import NO_LABEL, Encoded, batch_of
from bert_clinical.tasks.folder import SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION, write_model
from bert_clinical.tasks.model import TaskModel, TaskTraining
from bert_clinical.tasks.options import FineTuningOptions
from bert_clinical.weights.transformers_names import transformers_name
from bert_clinical.wordpieces.model_tokenizer import TokenizerRules
from data_prep.common.errors import UserError
from tests.theirs import needs_transformers, theirs

VOCAB_SIZE, NUM_LABELS = 53, 5


def config(dropout: float = 0.0, layers: int = 2) -> BertConfig:
    return BertConfig(
        vocab_size=VOCAB_SIZE, hidden_size=12, num_hidden_layers=layers, num_attention_heads=3,
        intermediate_size=17, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        max_position_embeddings=23, type_vocab_size=2,
    )  # fmt: skip


def model(
    per_token: bool,
    *,
    dropout: float = 0.0,
    layers: int = 2,
    sum_loss: bool = False,
    skip_padding: bool = False,
) -> TaskModel:
    # Weights ten times as large as new ones are, so that differences do not drown in rounding.
    fresh = create_variables(config(layers=layers), random_seed=11, heads=False)
    weights = {
        name: value.numpy() * (1 if "LayerNorm" in name else 10) for name, value in fresh.items()
    }
    return TaskModel(
        config(dropout, layers), weights, num_labels=NUM_LABELS, per_token=per_token, gelu="erf",
        random_seed=5, sum_loss=sum_loss, skip_padding=skip_padding,
    )  # fmt: skip


def examples(per_token: bool, count: int = 7) -> list[Encoded]:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(count):
        size = int(rng.integers(3, 14))
        labels = rng.integers(NO_LABEL if per_token else 0, NUM_LABELS, size if per_token else 1)
        second = int(rng.integers(1, size))
        found.append(
            Encoded(
                rng.integers(1, VOCAB_SIZE, size).tolist(),
                [0] * second + [1] * (size - second),
                labels.tolist(),
            )
        )
    return found


def save(ours: TaskModel, folder: Path, per_token: bool) -> None:
    """Writes a folder that transformers loads."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = specials + [f"t{number}" for number in range(VOCAB_SIZE - len(specials))]
    write_model(
        folder,
        architecture=TOKEN_CLASSIFICATION if per_token else SEQUENCE_CLASSIFICATION,
        config=config(), gelu="erf", tokens=tokens, rules=TokenizerRules(False), max_length=23,
        labels=[f"L{number}" for number in range(NUM_LABELS)],
        weights={name: value.numpy() for name, value in ours.variables.items()}, dropout=0.0,
    )  # fmt: skip


def their_inputs(batch: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns a batch and its labels as transformers take them."""
    inputs = {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["input_mask"],
        "token_type_ids": batch["segment_ids"],
    }
    return inputs, np.where(batch["label_ids"] == NO_LABEL, -100, batch["label_ids"])


@needs_transformers
@pytest.mark.parametrize("per_token", [False, True])
def test_loss_and_gradients_are_transformers(per_token: bool, tmp_path: Path) -> None:
    ours = model(per_token)
    save(ours, tmp_path, per_token)
    kind = f"AutoModelFor{'Token' if per_token else 'Sequence'}Classification"
    batch = batch_of(examples(per_token), per_token=per_token)
    inputs, labels = their_inputs(batch)
    loss, parameters, loading = theirs("loss_and_gradients", tmp_path, kind, inputs, labels)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    weights = {name: tf.identity(value) for name, value in ours.variables.items()}
    with tf.GradientTape() as tape:
        tape.watch(weights)
        found = ours.loss(
            weights, {name: tf.constant(value) for name, value in batch.items()}, None
        )
    assert float(found) == pytest.approx(loss, rel=1e-5)
    heads = {"output_weights": "classifier.weight", "output_bias": "classifier.bias"}
    gradients = tape.gradient(found, weights)
    assert len(gradients) == len(parameters)
    for name, gradient in gradients.items():
        expected = parameters[heads.get(name) or transformers_name(name).name]
        value = tf.convert_to_tensor(gradient).numpy()
        if name not in heads and transformers_name(name).transposed:
            value = value.T
        # Sums of float32 in another order.
        np.testing.assert_allclose(value, expected, atol=1e-5, err_msg=name)


def test_the_published_loss_sums_over_padding_too() -> None:
    batch = batch_of(examples(per_token=True), per_token=True, length=19, pad_label=0)
    batch["label_ids"] = np.maximum(batch["label_ids"], 0)
    logits = model(per_token=True).logits(batch).numpy().astype(np.float64)
    log_sums = np.log(np.exp(logits).sum(axis=-1))
    chosen = np.take_along_axis(logits, batch["label_ids"][..., None], axis=-1)[..., 0]
    published = model(per_token=True, sum_loss=True)
    found = published.loss(published.variables, batch, None)
    assert float(found) == pytest.approx(float((log_sums - chosen).sum()), rel=1e-5)


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("length", [None, 19])
def test_without_padding_loss_gradients_and_answers_are_the_same(
    per_token: bool, length: int | None
) -> None:
    batch = batch_of(examples(per_token), per_token=per_token, length=length)
    found = []
    for skip_padding in (False, True):
        network = model(per_token, skip_padding=skip_padding)
        weights = {name: tf.identity(value) for name, value in network.variables.items()}
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = network.loss(weights, batch, None)
        logits = network.logits(batch).numpy()
        if per_token:
            logits[batch["input_mask"] == 0] = 0
        gradients = tape.gradient(loss, weights)
        dense = {name: tf.convert_to_tensor(value).numpy() for name, value in gradients.items()}
        found.append({"loss": loss.numpy(), "logits": logits, **dense})
    for name, expected in found[0].items():
        # No answer depends on the keys' biases: their gradient is rounding noise.
        scale = np.abs(found[0][name.replace("key/bias", "query/bias")]).max()
        assert np.abs(found[1][name] - expected).max() <= 1e-6 * scale, name


def test_the_published_loss_reads_padding_whatever_is_asked_for() -> None:
    batch = batch_of(examples(per_token=True), per_token=True, length=19, pad_label=0)
    batch["label_ids"] = np.maximum(batch["label_ids"], 0)
    networks = [model(True, sum_loss=True, skip_padding=skip) for skip in (False, True)]
    losses = [float(network.loss(network.variables, batch, None)) for network in networks]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("per_token", [False, True])
def test_answers_do_not_depend_on_the_batch(per_token: bool) -> None:
    network, inputs = model(per_token), examples(per_token)
    alone = [fine_tuning.predict(network, [example], 1)[0] for example in inputs]
    for size in (2, 5, 100):
        together = fine_tuning.predict(network, inputs, size)
        for one, other, example in zip(alone, together, inputs, strict=True):
            assert one.shape == ((len(example), NUM_LABELS) if per_token else (NUM_LABELS,))
            np.testing.assert_allclose(one, other, atol=1e-5)
    batch = batch_of(inputs, per_token=per_token)
    losses = fine_tuning.mean_loss(inputs, alone)
    expected = network.loss(network.variables, batch, None)
    assert losses == pytest.approx(float(expected), rel=1e-5)


def test_probabilities_are_a_softmax() -> None:
    found = fine_tuning.probabilities(
        np.array([[1000.0, 1000.0], [0.0, math.log(3.0)]], np.float32)
    )
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)
    assert math.isnan(fine_tuning.mean_loss([Encoded([1], [0], [NO_LABEL])], [np.zeros(3)]))


def run_losses(seed: int, dropout: float) -> list[float]:
    network = model(per_token=False, dropout=dropout, layers=1)
    training = TaskTraining(network, Schedule(1e-3, 10, 2), random_seed=seed)
    batch = batch_of(examples(per_token=False), per_token=False)
    return [training.step(batch, step) for step in range(4)]


@needs_transformers
def test_a_run_is_that_of_transformers_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_model, "HEAD_DROPOUT", 0.0)
    ours = model(per_token=True)
    save(ours, tmp_path, per_token=True)
    rng = np.random.default_rng(4)
    batches = []
    for _ in range(7):
        # No WordPiece twice: Google's norm counts each of its places for itself.
        pieces = rng.permutation(np.arange(1, VOCAB_SIZE))[:11].tolist()
        labels = rng.integers(0, NUM_LABELS, len(pieces)).tolist()
        batches.append(batch_of([Encoded(pieces, [0] * len(pieces), labels)], per_token=True))
    training = TaskTraining(
        ours, Schedule(learning_rate=0.01, num_train_steps=len(batches), num_warmup_steps=0),
        random_seed=1, adam_bias_correction=True,
    )  # fmt: skip
    losses = [training.step(batch, step) for step, batch in enumerate(batches)]
    expected, norms = theirs("fine_tune", tmp_path, list(map(their_inputs, batches)), 0.01)
    assert min(norms) < 1 < max(norms[:-1])
    assert losses == pytest.approx(expected, rel=1e-4)
    assert max(abs(a - b) for a, b in itertools.pairwise(losses)) > 0.1


@pytest.mark.slow
def test_a_run_follows_from_its_seed() -> None:
    first = run_losses(1, 0.3)
    assert first == run_losses(1, 0.3)
    assert first != run_losses(2, 0.3)
    # Warm-up begins with a rate of 0: what differs in the second loss are the dropout masks.
    assert first[0] != first[1]


def test_the_pooler_stands_still_where_it_is_not_read() -> None:
    assert not [name for name in model(per_token=True).variables if "pooler" in name]
    assert [name for name in model(per_token=False).variables if "pooler" in name]


OPTIONS = FineTuningOptions(
    max_seq_length=16, train_batch_size=3, learning_rate=1e-2, num_train_epochs=4, random_seed=1
)


@pytest.mark.parametrize(
    ("losses", "best"),
    [([4.0, 3.0, 2.0, 1.0], 3), ([4.0, 1.0, 2.0, 3.0], 2), ([1.0, 1.0, 1.0, 1.0], 3), (None, 3)],
    ids=["the third has less loss", "the second has", "equal losses", "no losses"],
)
def test_the_best_epoch_is_kept(losses: list[float] | None, best: int) -> None:
    network = model(per_token=False, layers=1)
    seen: list[np.ndarray] = []
    values: Iterator[float] = iter([0.2, 0.7, 0.7, 0.1])

    def evaluate() -> dict[str, float]:
        seen.append(network.variables["output_weights"].numpy().copy())
        found = {"accuracy": next(values)}
        return found if losses is None else {**found, "loss": losses[len(seen) - 1]}

    done = fine_tuning.fine_tune(
        model=network, examples=examples(per_token=False), options=OPTIONS, evaluate=evaluate,
        metric="accuracy",
    )  # fmt: skip
    # 7 examples in batches of 3: after 1, 2 and 3 passes 2, 4 and 7 updates, and 9 in all.
    assert [epoch.step for epoch in done.epochs] == [2, 4, 7, 9]
    assert (done.best.number, done.best.metrics["accuracy"]) == (best, 0.7)
    found = network.variables["output_weights"].numpy()
    assert np.array_equal(found, seen[best - 1])
    assert not np.array_equal(found, seen[3])


def test_without_dev_data_the_last_epoch_is_kept() -> None:
    network = model(per_token=False, layers=1)
    done = fine_tuning.fine_tune(model=network, examples=examples(per_token=False), options=OPTIONS)
    assert done.best is done.epochs[-1]


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    network = model(per_token=False, layers=1)
    network.variables["output_bias"].assign([math.inf] * NUM_LABELS)
    with pytest.raises(UserError, match=r"no longer finite at update 1 .*--learning_rate"):
        fine_tuning.fine_tune(model=network, examples=examples(per_token=False), options=OPTIONS)


@pytest.mark.parametrize(
    ("count", "batch", "epochs", "steps"), [(7, 3, 4, 9), (7, 3, 0.5, 1), (10, 32, 10.0, 3)]
)
def test_number_of_steps_is_googles(count: int, batch: int, epochs: float, steps: int) -> None:
    options = FineTuningOptions(train_batch_size=batch, num_train_epochs=epochs)
    assert fine_tuning.number_of_steps(count, options) == steps


def test_no_step_at_all_is_a_mistake() -> None:
    with pytest.raises(UserError, match="5 training examples give no update"):
        fine_tuning.number_of_steps(5, FineTuningOptions(train_batch_size=32, num_train_epochs=3))
