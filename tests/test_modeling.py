"""The encoder against what Google's program answered, and its config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_clinical.modeling import BertModel, create_variables, get_activation
from bert_clinical.nn.config import BertConfig
from bert_clinical.nn.layers import Dropout, gelu_erf, gelu_tanh, layer_norm
from bert_clinical.nn.tensorflow import tf
from bert_clinical.weights import checkpoint
from data_prep.common.errors import UserError
from tests.golden_data import golden

ODD = {
    "vocab_size": 37,
    "hidden_size": 21,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 13,
    "max_position_embeddings": 11,
    "type_vocab_size": 3,
}


def odd_config(**changes: object) -> BertConfig:
    return BertConfig.from_dict({**ODD, **changes})


def odd_inputs(batch: int = 5, length: int = 7) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    draw = np.random.default_rng(1)
    return (
        tf.constant(draw.integers(0, 37, [batch, length]), tf.int32),
        tf.constant(draw.integers(0, 2, [batch, length]), tf.int32),
        tf.constant(draw.integers(0, 3, [batch, length]), tf.int32),
    )


# Two releases of TensorFlow sum in different orders; seen: 1.5e-6.
@pytest.mark.parametrize("checkpoint_name", ["init", "init_bertadam"])
def test_forward_pass_is_googles(checkpoint_name: str) -> None:
    config = BertConfig.from_json_file(golden("model/bert_config.json"))
    wanted = list(create_variables(config, random_seed=1))
    prefix = checkpoint.resolve_checkpoint(golden(checkpoint_name))
    weights = checkpoint.read_tensors(prefix, wanted)
    with np.load(golden("forward.npz")) as answers:
        outputs = BertModel(config)(
            weights,
            *(
                tf.constant(answers[name], tf.int32)
                for name in ("input_ids", "input_mask", "segment_ids")
            ),
        )
        np.testing.assert_allclose(
            outputs.sequence_output, answers["sequence_output"], atol=1e-5, rtol=0
        )
        np.testing.assert_allclose(
            outputs.pooled_output, answers["pooled_output"], atol=1e-5, rtol=0
        )


def test_odd_sizes_and_defaults_of_the_inputs() -> None:
    config = odd_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    weights = create_variables(config, random_seed=3)
    ids, _, _ = odd_inputs()
    outputs = BertModel(config)(weights, ids)
    explicit = BertModel(config)(weights, ids, tf.ones_like(ids), tf.zeros_like(ids))
    assert outputs.sequence_output.shape == (5, 7, 21)
    assert outputs.pooled_output.shape == (5, 21)
    assert [layer.shape for layer in outputs.all_encoder_layers] == [(5, 7, 21)] * 2
    np.testing.assert_array_equal(outputs.sequence_output, explicit.sequence_output)


def test_what_is_masked_changes_nothing_elsewhere() -> None:
    config = odd_config()
    weights = create_variables(config, random_seed=3)
    ids, _, segments = odd_inputs()
    mask = tf.constant([[1] * 4 + [0] * 3] * 5)
    other = tf.concat([ids[:, :4], (ids[:, 4:] + 1) % 37], axis=1)
    before, after = (
        BertModel(config)(weights, x, mask, segments).sequence_output for x in (ids, other)
    )
    np.testing.assert_allclose(before[:, :4], after[:, :4], atol=1e-6)
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-3


@pytest.mark.parametrize("recompute_grad", [False, True])
def test_the_last_layer_at_some_positions_is_that_of_all_positions(recompute_grad: bool) -> None:
    """Values and gradients; a position may be asked for twice, as the padding of predictions is."""
    config = odd_config()
    weights = {
        name: value.value() for name, value in create_variables(config, random_seed=4).items()
    }
    positions = tf.constant([[0, 6, 2, 0], [0, 1, 2, 3], [0, 0, 0, 0], [0, 5, 4, 1], [0, 3, 6, 5]])
    factors = tf.random.stateless_normal([5, 4, config.hidden_size], [1, 2])
    answers = []
    for last_positions in (None, positions):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            model = BertModel(config, recompute_grad=recompute_grad)
            outputs = model(weights, *odd_inputs(), last_positions=last_positions)
            chosen = outputs.sequence_output
            if last_positions is None:
                chosen = tf.gather(chosen, positions, batch_dims=1)
            total = tf.reduce_sum(chosen * factors) + tf.reduce_sum(outputs.pooled_output)
        gradients = tape.gradient(total, weights, unconnected_gradients="zero")
        answers.append([chosen, *(tf.convert_to_tensor(value) for value in gradients.values())])
    for found, expected in zip(*reversed(answers), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert outputs.sequence_output.shape == [5, 4, config.hidden_size]


def test_dropout_follows_from_its_seed_alone() -> None:
    config = odd_config(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    weights = create_variables(config, random_seed=3)

    def output(seed: list[int]) -> np.ndarray:
        model = BertModel(config)
        inputs = odd_inputs()
        return model(
            weights, *inputs, dropout_seed=tf.constant(seed, tf.int64)
        ).pooled_output.numpy()

    np.testing.assert_array_equal(output([1, 4096]), output([1, 4096]))
    assert np.abs(output([1, 4096]) - output([1, 8192])).max() > 1e-3
    assert np.abs(output([1, 4096]) - output([2, 4096])).max() > 1e-3


def test_dropout_keeps_its_share_and_the_mean_and_differs_between_places() -> None:
    dropout = Dropout(tf.constant([5, 0], tf.int64), 1)
    ones = tf.ones([400, 500])
    first, second = dropout(ones, 0.1).numpy(), dropout(ones, 0.1).numpy()
    # 200,000 draws: three deviations of the share are 0.002.
    assert abs((first == 0).mean() - 0.1) < 0.002
    np.testing.assert_allclose(first[first > 0], 1 / 0.9, rtol=1e-6)
    assert abs(((first == 0) & (second == 0)).mean() - 0.01) < 0.001
    np.testing.assert_array_equal(dropout(ones, 0.0), ones)
    np.testing.assert_array_equal(Dropout(None, 1)(ones, 0.5), ones)


@pytest.mark.parametrize("shape", [[7, 11], [3, 5, 7, 9]])
def test_dropout_draws_the_same_when_compiled(shape: list[int]) -> None:
    def dropped(seed: tf.Tensor) -> tf.Tensor:
        return Dropout(seed, 2)(tf.ones(shape), 0.25)

    seed = tf.constant([5, 1 << 40], tf.int64)
    plain = dropped(seed)
    np.testing.assert_array_equal(tf.function(dropped, jit_compile=True)(seed), plain)
    assert 0 < np.count_nonzero(plain) < np.prod(shape)


def test_a_rate_next_to_1_keeps_next_to_nothing() -> None:
    dropout = Dropout(tf.constant([5, 0], tf.int64), 1)
    assert np.count_nonzero(dropout(tf.ones([1000, 100]), 1 - 1e-9)) < 20


def test_recomputing_gives_the_same_gradients() -> None:
    config = odd_config(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    weights = create_variables(config, random_seed=3)
    gradients = []
    for recompute in (False, True):
        model = BertModel(config, recompute_grad=recompute)

        @tf.function
        def of_weights(model: BertModel = model) -> dict[str, tf.Tensor]:
            tensors = {name: tf.convert_to_tensor(value) for name, value in weights.items()}
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                seed = tf.constant([1, 0], tf.int64)
                outputs = model(tensors, *odd_inputs(), dropout_seed=seed)
                loss = tf.reduce_sum(outputs.sequence_output**2 * tf.range(21.0))
            used = [name for name in tensors if name.startswith("bert/encoder")]
            return tape.gradient(loss, {name: tensors[name] for name in used})

        gradients.append(of_weights())
    for name, expected in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], expected, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_mixed_precision_is_near_and_answers_in_float32(dtype: tf.DType) -> None:
    config = odd_config()
    weights = create_variables(config, random_seed=3)
    exact = BertModel(config)(weights, *odd_inputs())
    mixed = BertModel(config, compute_dtype=dtype)(weights, *odd_inputs())
    assert mixed.sequence_output.dtype == tf.float32
    # LayerNorm brings values to about 1, of which bfloat16 keeps 8 bits.
    np.testing.assert_allclose(mixed.sequence_output, exact.sequence_output, atol=0.05)
    assert np.abs(mixed.sequence_output - exact.sequence_output).max() > 0


def test_activations() -> None:
    values = np.linspace(-4, 4, 101).astype(np.float32)
    from scipy.special import erf

    exact = values * 0.5 * (1 + erf(values / np.sqrt(2)))
    cubic = values + 0.044715 * values**3
    approximate = values * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * cubic))
    for name, gelu, expected in [
        ("gelu", "erf", exact),
        ("gelu", "tanh", approximate),
        ("relu", "tanh", np.maximum(values, 0)),
        ("tanh", "erf", np.tanh(values)),
        ("linear", "tanh", values),
    ]:
        answer = get_activation(name, gelu)(tf.constant(values))
        np.testing.assert_allclose(answer, expected, atol=2e-6, err_msg=f"{name} {gelu}")
    assert np.abs(exact - approximate).max() > 1e-4
    with pytest.raises(ValueError, match="swish"):
        get_activation("swish")
    with pytest.raises(ValueError, match="gelu"):
        get_activation("gelu", "quick")


def test_first_weights_follow_from_the_seed() -> None:
    config = odd_config(initializer_range=0.02, vocab_size=3001)
    one, again, other = (create_variables(config, random_seed=seed) for seed in (1, 1, 2))
    name = "bert/embeddings/word_embeddings"
    np.testing.assert_array_equal(one[name], again[name])
    assert np.abs(one[name] - other[name]).max() > 0.01
    # A normal distribution cut at two deviations has 0.88 of the deviation.
    assert abs(np.std(one[name]) / 0.02 - 0.88) < 0.01
    assert np.abs(one[name]).max() <= 0.04
    for variable, value in one.items():
        if variable.endswith("gamma"):
            assert (value.numpy() == 1).all()
        elif variable.endswith(("beta", "bias")):
            assert (value.numpy() == 0).all()
    assert set(one) == set(
        checkpoint.tensor_shapes(checkpoint.resolve_checkpoint(golden("model/init")))
    )


def test_config_keeps_unknown_keys_and_goes_through_json(tmp_path: Path) -> None:
    config = BertConfig.from_dict({**ODD, "note": "kept"})
    path = tmp_path / "bert_config.json"
    path.write_text(config.to_json_string())
    again = BertConfig.from_json_file(path)
    assert again.to_dict() == config.to_dict()
    assert again.to_dict()["note"] == "kept"
    assert again.hidden_act == "gelu"
    assert BertConfig(vocab_size=5).max_position_embeddings == 512


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("{", "broken JSON at line 1"),
        ("[1]", "list"),
        ("{}", "vocab_size is missing"),
        (json.dumps({**ODD, "hidden_size": 20}), "not a multiple"),
        (json.dumps({**ODD, "hidden_size": "21"}), "hidden_size is '21'"),
        (json.dumps({**ODD, "num_hidden_layers": 0}), "num_hidden_layers is 0"),
        (json.dumps({**ODD, "hidden_act": "swish"}), "hidden_act is 'swish'"),
        (json.dumps({**ODD, "hidden_dropout_prob": 1.0}), "hidden_dropout_prob is 1.0"),
        (json.dumps({**ODD, "initializer_range": -1}), "initializer_range is -1"),
    ],
)
def test_a_config_that_is_no_model(tmp_path: Path, text: str, fragment: str) -> None:
    path = tmp_path / "bert_config.json"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        BertConfig.from_json_file(path)
    assert fragment in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("function", [gelu_tanh, gelu_erf])
def test_gradients_written_out_are_those_of_the_function(function: Any) -> None:
    with tf.device("/CPU:0"):
        values = tf.constant(np.linspace(-4, 4, 31), tf.float64)
        (analytic,), (numeric,) = tf.test.compute_gradient(function, [values])
        np.testing.assert_allclose(analytic, numeric, atol=1e-5)
        inputs = [tf.constant(x, tf.float64) for x in np.random.default_rng(4).normal(size=[3, 7])]
        inputs[0] = tf.constant(np.random.default_rng(5).normal(size=[5, 7]), tf.float64)
        for analytic, numeric in zip(*tf.test.compute_gradient(layer_norm, inputs), strict=True):
            np.testing.assert_allclose(analytic, numeric, atol=1e-5)
