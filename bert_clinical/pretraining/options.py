"""Everything that a training run is told; knows no TensorFlow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from data_prep.common.settings_flags import setting

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
GELU_FORMS = ("tanh", "erf")
SCHEDULES = ("linear", "constant", "one_minus_sqrt")


@dataclass(frozen=True)
class TrainingOptions:
    """The settings of a run, named as the flags of `run_pretraining`; their helps say what each is.

    Steps are updates of the weights, lengths WordPieces.
    """

    max_seq_length: int = setting(128, "WordPieces in a sequence, as the data was made.", minimum=1)
    max_predictions_per_seq: int = setting(
        20, "Predictions in a sequence, as the data was made.", minimum=1
    )
    train_batch_size: int = setting(
        32, "Examples of an update, over all devices and parts.", minimum=1
    )
    learning_rate: float = setting(5e-5, "The learning rate that warm-up leads to.")
    num_train_steps: int = setting(100000, "Updates in the whole run.", minimum=1)
    num_warmup_steps: int = setting(
        10000, "Updates during which the learning rate rises.", minimum=0
    )
    learning_rate_schedule: str = setting(
        "linear",
        "After warm-up: linear decay from step 0 to the last, as Google's; constant; or "
        "one_minus_sqrt, which holds the rate and decays in the last --decay_steps.",
        choices=SCHEDULES,
    )
    decay_steps: int = setting(
        0, "Updates at the end in which one_minus_sqrt decays to 0.", minimum=0
    )
    save_checkpoints_steps: int = setting(1000, "Updates between two checkpoints.", minimum=1)
    iterations_per_loop: int = setting(
        1000,
        "Most updates in one compiled call; fewer if they would take more than about 5 seconds.",
        minimum=1,
    )
    keep_checkpoint_max: int = setting(
        5, "How many checkpoints stay, the newest; 0 for all.", minimum=0
    )
    random_seed: int = setting(
        12345, "Of first weights, dropout and the order of the data.", minimum=0
    )
    gelu: str = setting(
        "tanh",
        "Form of GELU: tanh as in Google's program since 2019-02-07, erf as BioBERT was trained "
        "and as transformers computes `gelu`.",
        choices=GELU_FORMS,
    )
    precision: str = setting(
        "float32",
        "Type of products and activations; weights, LayerNorm, softmax and losses stay float32.",
        choices=PRECISIONS,
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Parts into which a batch is divided to save memory; the update is the whole batch's.",
        minimum=1,
    )
    recompute_grad: bool = setting(
        False, "Compute activations again for gradients, to save memory."
    )
    jit_compile: bool = setting(
        False, "Compile by XLA. Dropout then draws other masks for the same seed."
    )
    skip_padding: bool = setting(
        True, "Compute the real tokens alone; padding has no part in any loss or gradient."
    )
    log_every: int = setting(100, "Updates between two lines of the log.", minimum=1)
    eval_every: int = setting(
        0, "Updates between evaluations on --eval_input_file; 0 for none.", minimum=0
    )
    stop_after_no_gain: int = setting(
        0,
        "End when so many evaluations in a row have brought no lower masked LM loss on held-out "
        "data; 0 for never.",
        minimum=0,
    )
    eval_batch_size: int = setting(8, "Examples of an evaluation's batch.", minimum=1)
    max_eval_steps: int = setting(100, "Batches of an evaluation.", minimum=1)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings by name."""
        return asdict(self)
