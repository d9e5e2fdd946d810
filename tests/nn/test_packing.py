"""The encoder on real tokens alone against the encoder on all positions."""

from __future__ import annotations

import numpy as np
import pytest

from bert_clinical.modeling import BertModel, BertOutput, create_variables
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.packing import (
    EXACT,
    Packed,
    PackedShape,
    by_shape,
    group_sizes,
    rows_multiple,
)
from bert_clinical.nn.tensorflow import tf

LENGTH, HEADS, WIDTH = 11, 3, 21


def of_lengths(*lengths: int) -> np.ndarray:
    return (np.arange(LENGTH) < np.array(lengths)[:, None]).astype(np.int32)


MASKS = {
    "all lengths": of_lengths(3, 11, 1, 7, 2, 9, 5, 10, 4, 8, 6),
    "whole": of_lengths(11, 11, 11, 11, 11),
    "a token each": of_lengths(1, 1, 1),
    "one token": of_lengths(1),
    "equal lengths": of_lengths(6, 6, 6, 6, 6, 6),
    "holes": np.array([[1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0], [0, 1] + [0] * 9, [1] * 11], np.int32),
}
ROOMY = PackedShape(9 * LENGTH, (LENGTH,) * 4)


def config(dropout: float = 0.0) -> BertConfig:
    return BertConfig(
        vocab_size=37, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=HEADS,
        intermediate_size=13, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        max_position_embeddings=LENGTH + 2, type_vocab_size=3,
    )  # fmt: skip


def weights() -> dict[str, tf.Tensor]:
    # Ten times as large as new ones, so that attention is not flat.
    fresh = create_variables(config(), random_seed=5, heads=False)
    return {n: v.value() * (1 if "LayerNorm" in n else 10) for n, v in fresh.items()}


def inputs(mask: np.ndarray) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    draw = np.random.default_rng(2)
    ids, segments = draw.integers(0, 37, mask.shape), draw.integers(0, 3, mask.shape)
    return tf.constant(ids, tf.int32), tf.constant(mask), tf.constant(segments, tf.int32)


def real_values(output: tf.Tensor, mask: np.ndarray) -> tf.Tensor:
    return tf.where(mask[:, :, None] != 0, output, 0.0)


def assert_close(found: tf.Tensor, expected: tf.Tensor, name: str, scale: float = 0.0) -> None:
    """To 1e-6 of the largest value: the same sums in another order."""
    scale = max(scale, float(np.abs(expected).max()))
    assert np.abs(np.asarray(found) - expected).max() <= 1e-6 * scale, name


def answers(
    mask: np.ndarray, packed: PackedShape | None, *, jit: bool = False, recompute: bool = False
) -> tuple[BertOutput, dict[str, tf.Tensor]]:
    """Returns the outputs, and the gradients of something that weighs each of them differently."""
    model = BertModel(config(), recompute_grad=recompute)
    values = weights()
    factors = tf.random.stateless_normal([*mask.shape, WIDTH], [1, 2])

    @tf.function(jit_compile=jit or None)
    def compute() -> tuple[tuple[tf.Tensor, ...], dict[str, tf.Tensor]]:
        with tf.GradientTape() as tape:
            tape.watch(values)
            output = model(values, *inputs(mask), packed=packed)
            layers = output.all_encoder_layers
            read = [real_values(layer, mask) * factors for layer in layers]
            pooled = tf.boolean_mask(output.pooled_output, mask[:, 0] != 0)
            total = tf.add_n([tf.reduce_sum(x) for x in read]) + tf.reduce_sum(pooled)
        gradients = tape.gradient(total, values)
        dense = {name: tf.convert_to_tensor(value) for name, value in gradients.items()}
        return (output.pooled_output, output.embedding_output, *layers), dense

    (pooled, embedded, *layers), gradients = compute()
    return BertOutput(pooled, tuple(layers), embedded), gradients


def assert_same(mask: np.ndarray, packed: PackedShape, **how: bool) -> None:
    expected, expected_gradients = answers(mask, None)
    found, gradients = answers(mask, packed, **how)
    first_is_real = mask[:, 0] != 0
    assert_close(found.pooled_output[first_is_real], expected.pooled_output[first_is_real], "pool")
    for number, (one, other) in enumerate(
        zip(found.all_encoder_layers, expected.all_encoder_layers, strict=True)
    ):
        assert_close(real_values(one, mask), real_values(other, mask), f"layer {number}")
        assert not one.numpy()[mask == 0].any()
    assert_close(
        real_values(found.embedding_output, mask), real_values(expected.embedding_output, mask), ""
    )
    for name, gradient in expected_gradients.items():
        # No output depends on the keys' biases: their gradient is rounding noise.
        scale = 0.0
        if name.endswith("key/bias"):
            scale = float(np.abs(expected_gradients[name.replace("key", "query")]).max())
        assert_close(gradients[name], gradient, name, scale)


@pytest.mark.parametrize("name", MASKS)
def test_real_tokens_alone_give_the_same_outputs_and_gradients(name: str) -> None:
    assert_same(MASKS[name], EXACT)


@pytest.mark.parametrize("jit", [False, True])
def test_room_that_is_left_over_changes_nothing(jit: bool) -> None:
    assert_same(MASKS["all lengths"], ROOMY, jit=jit)


def test_recomputing_changes_nothing() -> None:
    assert_same(MASKS["all lengths"], EXACT, recompute=True)


def test_a_sequence_without_a_real_token_is_computed_whole() -> None:
    mask = of_lengths(4, 0, 11)
    for packed in (EXACT, PackedShape(33, (11, 11, 11))):
        found = BertModel(config())(weights(), *inputs(mask), packed=packed)
        expected = BertModel(config())(weights(), *inputs(mask))
        # The mask's large number takes the last bits of its scores.
        np.testing.assert_allclose(found.pooled_output, expected.pooled_output, atol=2e-3)
        np.testing.assert_allclose(found.pooled_output[::2], expected.pooled_output[::2], atol=1e-5)


@pytest.mark.parametrize("packed", [EXACT, ROOMY])
@pytest.mark.parametrize("recompute", [False, True])
def test_some_positions_of_the_last_layer(packed: PackedShape, recompute: bool) -> None:
    """Values and gradients; a position may be asked for twice."""
    mask = MASKS["all lengths"]
    positions = tf.constant([[0, (n - 1) // 2, n - 1, 0] for n in mask.sum(axis=1)], tf.int32)
    factors = tf.random.stateless_normal([len(mask), 4, WIDTH], [1, 2])
    found = []
    for room in (None, packed):
        values = weights()
        with tf.GradientTape() as tape:
            tape.watch(values)
            model = BertModel(config(), recompute_grad=recompute)
            output = model(values, *inputs(mask), last_positions=positions, packed=room)
            total = tf.reduce_sum(output.sequence_output * factors)
        gradients = tape.gradient(total, values, unconnected_gradients="zero")
        found.append({"": output.sequence_output, "pooled": output.pooled_output, **gradients})
    for name, expected in found[0].items():
        scale = 1.0 if name.endswith("key/bias") else 0.0
        assert_close(
            tf.convert_to_tensor(found[1][name]), tf.convert_to_tensor(expected), name, scale
        )


def test_the_batchs_size_need_not_be_known() -> None:
    mask = MASKS["all lengths"]
    size = tf.TensorSpec([None, None], tf.int32)
    values = weights()

    @tf.function(input_signature=[size] * 3)
    def compute(ids: tf.Tensor, mask: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
        return BertModel(config())(values, ids, mask, segments, packed=EXACT).sequence_output

    for count in (1, 2, len(mask)):
        given = inputs(mask[:count])
        expected = BertModel(config())(values, *given).sequence_output
        assert_close(compute(*given), real_values(expected, mask[:count]), str(count))


def test_dropout_follows_from_its_seed_and_hits_every_row() -> None:
    mask, seed = MASKS["all lengths"], tf.constant([1, 4096], tf.int64)
    one, again, other = (
        BertModel(config(0.3))(
            weights(), *inputs(mask), dropout_seed=seed + change, packed=EXACT
        ).embedding_output.numpy()
        for change in (0, 0, 4096)
    )
    np.testing.assert_array_equal(one, again)
    real = mask != 0
    assert abs((one[real] == 0).mean() - 0.3) < 0.05
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("recompute", [False, True])
def test_room_that_is_left_over_changes_no_mask_of_a_row(recompute: bool) -> None:
    """Masks are drawn row after row, so that how many rows follow changes nothing."""
    mask, seed = MASKS["all lengths"], tf.constant([1, 4096], tf.int64)
    values = {**config(0.3).to_dict(), "attention_probs_dropout_prob": 0.0}
    model = BertModel(BertConfig.from_dict(values), recompute_grad=recompute)
    one, other = (
        model(weights(), *inputs(mask), dropout_seed=seed, packed=packed).sequence_output
        for packed in (EXACT, ROOMY)
    )
    assert_close(real_values(one, mask), real_values(other, mask).numpy(), "sequence")


@pytest.mark.parametrize("name", MASKS)
def test_rows_are_whole_multiples_or_all_positions(name: str) -> None:
    """Of few numbers of rows libraries keep little, however long a run is."""
    mask = MASKS[name]
    rows = len(Packed(tf.constant(mask), HEADS).rows(tf.constant(mask)))
    assert rows == min(-(-mask.sum() // 16) * 16, mask.size)


@pytest.mark.parametrize(
    ("batch_size", "length", "expected"),
    [(8, 128, 16), (1, 11, 16), (9, 128, 32), (4, 512, 32), (32, 128, 64), (32, 512, 256)],
)
def test_numbers_of_rows_are_few(batch_size: int, length: int, expected: int) -> None:
    assert rows_multiple(batch_size, length) == expected
    assert batch_size * length <= 64 * expected
    assert rows_multiple(tf.constant(batch_size), length) == 16


def test_groups_share_the_sequences_evenly() -> None:
    assert group_sizes(3) == [1, 1, 1]
    assert group_sizes(10) == [2, 3, 2, 3]
    assert group_sizes(128) == [32] * 4


@pytest.mark.parametrize("jit", [False, True])
def test_a_batch_takes_the_first_shape_with_room(jit: bool) -> None:
    small, larger = PackedShape(5, (2, 3)), PackedShape(8, (4, 6))

    @tf.function(jit_compile=jit or None, input_signature=[tf.TensorSpec([2, LENGTH], tf.int32)])
    def chosen(mask: tf.Tensor) -> tf.Tensor:
        return by_shape(
            mask, [small, larger], lambda shape: tf.constant(shape.rows if shape else 0)
        )

    for lengths, expected in [
        ((3, 2), 5), ((2, 3), 5), ((1, 4), 8), ((3, 3), 8), ((2, 6), 8), ((5, 4), 0), ((1, 7), 0),
    ]:  # fmt: skip
        assert int(chosen(of_lengths(*lengths))) == expected, lengths
    assert by_shape(of_lengths(1, 1), [EXACT], lambda shape: shape) == EXACT
    assert by_shape(of_lengths(1, 1), [], lambda shape: shape) is None
