"""Vectors of texts and of their WordPieces: windows in batches by length, answers in input order.

Dimensions: B batch, S sequence, L layers asked for, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bert_clinical.modeling import BertModel
from bert_clinical.nn.packing import EXACT
from bert_clinical.nn.tensorflow import tf
from bert_clinical.weights.pretrained import PretrainedModel
from bert_clinical.wordpieces.inputs import TextWindows, Window
from data_prep.common.errors import UserError

_VALUES_BATCHES = 4
"""Batches sorted by length together where every WordPiece's values are kept until written."""

_SUMS_BATCHES = 64
"""The same where one vector is kept for each window."""


class TextVector(NamedTuple):
    """A text's vector, float32 [L * H], and how many windows it is of."""

    row_id: str
    vector: np.ndarray
    num_windows: int


class FeatureExtractor:
    """An encoder that answers with the outputs of some of its layers.

    Args:
      model: needs no pooler and no head.
      layers: as indices into all layers, -1 for the last; -layers <= index < layers.
      batch_size: windows computed at once.
    """

    def __init__(self, model: PretrainedModel, layers: Sequence[int], batch_size: int) -> None:
        self._layers = list(layers)
        self._batch_size = batch_size
        self._pad = list(model.tokens).index("[PAD]")
        self._variables = {
            name: tf.Variable(value, name=name) for name, value in model.encoder_weights().items()
        }
        self._encoder = BertModel(model.config, gelu=model.gelu)
        size = tf.TensorSpec([None, None], tf.int32)
        self._values = tf.function(self._outputs, autograph=False, input_signature=[size] * 3)
        counts = tf.TensorSpec([None, None], tf.float32)
        self._sums = tf.function(
            self._summed, autograph=False, input_signature=[size, size, size, counts]
        )

    def values(self, windows: Iterable[Window]) -> Iterator[tuple[Window, np.ndarray]]:
        """Yields each window with the values of its WordPieces, float32 [S, L, H]."""

        def compute(batch: Sequence[Window]) -> Iterable[np.ndarray]:
            found = self._values(*self._padded(batch)).numpy()
            return (row[: len(w.input_ids)] for w, row in zip(batch, found, strict=True))

        for chunk in _chunks(windows, self._batch_size * _VALUES_BATCHES):
            yield from zip(chunk, self._by_length(chunk, compute), strict=True)

    def vectors(self, texts: Iterable[TextWindows], pooling: str) -> Iterator[TextVector]:
        """Yields a vector for each text, its layers one after the other.

        Args:
          texts: in any number; few are in memory at a time.
          pooling: "mean" over the positions that count in a text's windows, each once, or "cls"
            for the mean of its windows' `[CLS]`.
        """

        def compute(batch: Sequence[Window]) -> Iterable[np.ndarray]:
            ids, mask, segments = self._padded(batch)
            counts = np.zeros(ids.shape, np.float32)
            for row, window in zip(counts, batch, strict=True):
                row[_counted(window, pooling)] = 1.0
            return self._sums(ids, mask, segments, counts).numpy()

        waiting: list[TextWindows] = []
        size = 0
        for text in texts:
            waiting.append(text)
            size += len(text.windows)
            if size >= self._batch_size * _SUMS_BATCHES:
                yield from self._pooled(waiting, pooling, compute)
                waiting, size = [], 0
        yield from self._pooled(waiting, pooling, compute)

    def _pooled(
        self,
        texts: Sequence[TextWindows],
        pooling: str,
        compute: Callable[[Sequence[Window]], Iterable[np.ndarray]],
    ) -> Iterator[TextVector]:
        windows = [window for text in texts for window in text.windows]
        sums = iter(self._by_length(windows, compute))
        for text in texts:
            total = sum(next(sums).astype(np.float64) for _ in text.windows)
            count = sum(
                len(range(*_counted(window, pooling).indices(len(window.input_ids))))
                for window in text.windows
            )
            vector = np.asarray(total / count, np.float32)
            yield TextVector(text.row_id, vector, len(text.windows))

    def _by_length(
        self,
        windows: Sequence[Window],
        compute: Callable[[Sequence[Window]], Iterable[np.ndarray]],
    ) -> list[np.ndarray]:
        """Returns what `compute` gives for each window, though it is asked in another order.

        The longest come first, so that a lack of memory shows at once.
        """
        order = sorted(range(len(windows)), key=lambda i: -len(windows[i].input_ids))
        results: list[np.ndarray] = [np.empty(0)] * len(windows)
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            try:
                found = compute([windows[i] for i in chosen])
            except (tf.errors.ResourceExhaustedError, MemoryError):
                raise UserError(
                    f"out of memory with {len(chosen)} sequences of "
                    f"{len(windows[chosen[0]].input_ids)} WordPieces at once; give a smaller "
                    "--batch_size or --max_seq_length"
                ) from None
            for i, result in zip(chosen, found, strict=True):
                results[i] = result
        return results

    def _padded(self, batch: Sequence[Window]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns ids, mask and segments, int32 [B, S]."""
        shape = (len(batch), max(len(window.input_ids) for window in batch))
        ids = np.full(shape, self._pad, np.int32)
        mask, segments = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        for row, window in enumerate(batch):
            length = len(window.input_ids)
            ids[row, :length] = window.input_ids
            mask[row, :length] = 1
            segments[row, :length] = window.segment_ids
        return ids, mask, segments

    def _outputs(self, ids: tf.Tensor, mask: tf.Tensor, segments: tf.Tensor) -> tf.Tensor:
        """Returns the layers' outputs, float32 [B, S, L, H]."""
        output = self._encoder(self._variables, ids, mask, segments, packed=EXACT)
        return tf.stack([output.all_encoder_layers[layer] for layer in self._layers], axis=2)

    def _summed(
        self, ids: tf.Tensor, mask: tf.Tensor, segments: tf.Tensor, counts: tf.Tensor
    ) -> tf.Tensor:
        """Returns sums over positions, each as often as it counts, float32 [B, L * H]."""
        output = self._encoder(self._variables, ids, mask, segments, packed=EXACT)
        sums = [
            tf.linalg.matvec(output.all_encoder_layers[layer], counts, transpose_a=True)
            for layer in self._layers
        ]
        return tf.concat(sums, axis=-1)


def _counted(window: Window, pooling: str) -> slice:
    """Returns which positions of a window a text's vector is the mean of."""
    return slice(0, 1) if pooling == "cls" else slice(window.first, window.end)


def _chunks(windows: Iterable[Window], size: int) -> Iterator[list[Window]]:
    chunk: list[Window] = []
    for window in windows:
        chunk.append(window)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
