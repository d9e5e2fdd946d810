"""Which rows the encoder computes of a batch: all positions, or the real tokens alone.

The dense layers take one token a row and do not care where it stands. Attention takes sequences of
queries, keys and values, head by head. A layout knows the way from rows to sequences and back.

Where padding is left out, the sequences are sorted by length for attention and taken in a few
groups, each as long as its longest.

Dimensions: B batch, S sequence, P chosen positions of it, R rows, H hidden, N heads, D = H / N.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from bert_clinical.nn.tensorflow import tf

MOST_GROUPS = 4
"""Groups of sequences for attention: more of them leave less padding and make more calls."""

_MASKED = -10000.0
"""Added to the attention scores of padding, as in Google's: large, yet finite in float16."""


@dataclass(frozen=True)
class PackedShape:
    """How much room there is for the real tokens of a batch.

    Attributes:
      rows: real tokens; None for as many as there are, up to a whole multiple (`rows_multiple`).
      lengths: tokens of the longest sequence of each group, the shortest sequences' first.
    """

    rows: int | None = None
    lengths: tuple[int, ...] = ()


EXACT = PackedShape()
"""Room for every batch: sizes that follow from it, which no compiled program can have."""

ROWS_MULTIPLE = 16
"""Of how many rows a batch has at least a whole multiple, see `rows_multiple`."""

_MOST_NUMBERS_OF_ROWS = 64


class Layout(Protocol):
    """The rows of a batch, and the sequences that they belong to."""

    biases: list[tf.Tensor]
    """What is added to the attention scores of each group, float32 [sequences, 1, 1, S]."""

    def rows(self, values: tf.Tensor) -> tf.Tensor:
        """Returns [R] out of [B, S]."""

    def add_positions(self, value: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """Adds to each row of [R, H] its position's row of `table`, [positions, H]."""

    def heads(self, value: tf.Tensor) -> list[tf.Tensor]:
        """Returns rows [R, H] as sequences [sequences, N, S, D], group by group."""

    def joined(self, groups: Sequence[tf.Tensor]) -> tf.Tensor:
        """Undoes `heads`."""

    def batch(self, value: tf.Tensor) -> tf.Tensor:
        """Returns rows [R, H] as [B, S, H], 0 where there is no row."""

    def chosen(self, positions: tf.Tensor) -> Chosen:
        """Returns the layout of some positions, int32 [B, P]."""


class Padded:
    """All positions, padding included.

    Args:
      mask: int32 [B, S], 0 for padding.
      heads: N.
    """

    def __init__(self, mask: tf.Tensor, heads: int) -> None:
        self._size, self._length, self._heads = size_of(mask, 0), size_of(mask, 1), heads
        self.biases = [_bias(mask)]

    def rows(self, values: tf.Tensor) -> tf.Tensor:
        """See `Layout`."""
        return tf.reshape(values, [-1])

    def add_positions(self, value: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """See `Layout`."""
        return tf.reshape(self.batch(value) + table[: self._length], [-1, value.shape[-1]])

    def heads(self, value: tf.Tensor) -> list[tf.Tensor]:
        """See `Layout`."""
        return [_split_heads(value, self._size, self._heads)]

    def joined(self, groups: Sequence[tf.Tensor]) -> tf.Tensor:
        """See `Layout`."""
        return _join_heads(groups[0])

    def batch(self, value: tf.Tensor) -> tf.Tensor:
        """See `Layout`."""
        return tf.reshape(value, [self._size, self._length, value.shape[-1]])

    def chosen(self, positions: tf.Tensor) -> Chosen:
        """See `Layout`."""
        firsts = tf.range(self._size)[:, None] * self._length
        return Chosen(positions + firsts, self._heads, [self._size], None)


class Packed:
    """The real tokens, one sequence after the other, the shortest first.

    A sequence without any real token counts as if all were: so it does for attention, where all
    masked is none masked.

    Args:
      mask: int32 [B, S], 0 for padding.
      heads: N.
      shape: has room for the batch; rows left over hold padding that nothing reads.
    """

    def __init__(self, mask: tf.Tensor, heads: int, shape: PackedShape = EXACT) -> None:
        self._size, self._length, self._heads = size_of(mask, 0), size_of(mask, 1), heads
        real = _real(mask)
        counts = tf.reduce_sum(tf.cast(real, tf.int32), axis=1)
        self._order = tf.argsort(counts, stable=True)
        self._rank = tf.argsort(self._order)
        self._counts = tf.gather(counts, self._order)
        self._starts = tf.cumsum(self._counts, exclusive=True)
        self._index_rows(real, shape)
        self._index_groups(shape)

    def _index_rows(self, real: tf.Tensor, shape: PackedShape) -> None:
        """Finds the place of each row in the batch and the row of each place."""
        total = tf.reduce_sum(self._counts)
        unread = 1 - tf.cast(tf.gather(real, self._order), tf.int32)
        # A stable sort puts the real tokens first, in their order.
        multiple = rows_multiple(self._size, self._length)
        count = rounded_up(total, multiple) if shape.rows is None else shape.rows
        places = tf.argsort(tf.reshape(unread, [-1]), stable=True)[:count]
        numbers = tf.range(tf.shape(places)[0])
        self._sequences, self._positions = places // self._length, places % self._length
        first = tf.gather(self._starts, self._sequences)
        last = first + tf.gather(self._counts, self._sequences) - 1
        self._offsets = tf.minimum(numbers, last) - first
        self._row_is_real = numbers < total
        self._place_of_row = (
            tf.gather(self._order, self._sequences) * self._length + self._positions
        )
        before = tf.cumsum(tf.cast(real, tf.int32), axis=1) - 1
        self._row_of_place = tf.gather(self._starts, self._rank)[:, None] + tf.maximum(before, 0)
        self._place_is_real = tf.reshape(real, [-1])

    def _index_groups(self, shape: PackedShape) -> None:
        """Finds the row of each head's token in the groups, and where each row's heads lie."""
        heads = tf.range(self._heads)
        self._shapes, self.biases = [], []
        rows_of_heads, are_real, firsts, strides = [], [], [], []
        begin, place = 0, 0
        for group, size in enumerate(group_sizes(self._size)):
            counts = self._counts[begin : begin + size, None]
            length = shape.lengths[group] if shape.lengths else counts[-1, 0]
            offsets = tf.range(length)[None, :]
            is_real = offsets < counts
            rows = self._starts[begin : begin + size, None] + tf.minimum(offsets, counts - 1)
            indices = rows[:, None, :] * self._heads + heads[None, :, None]
            rows_of_heads.append(tf.reshape(indices, [-1]))
            spread = tf.broadcast_to(is_real[:, None, :], tf.shape(indices))
            are_real.append(tf.reshape(spread, [-1]))
            firsts.append(place + tf.range(size) * (length * self._heads))
            strides.append(tf.fill([size], length))
            self.biases.append(_bias(is_real))
            self._shapes.append((size, self._heads, length))
            begin, place = begin + size, place + size * length * self._heads
        self._rows_of_heads = tf.concat(rows_of_heads, 0)
        self._head_is_real = tf.concat(are_real, 0)
        first = tf.gather(tf.concat(firsts, 0), self._sequences) + self._offsets
        stride = tf.gather(tf.concat(strides, 0), self._sequences)
        self._heads_of_rows = tf.reshape(first[:, None] + stride[:, None] * heads, [-1])

    def rows(self, values: tf.Tensor) -> tf.Tensor:
        """See `Layout`."""
        return tf.gather(tf.reshape(values, [-1]), self._place_of_row)

    def add_positions(self, value: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
        """See `Layout`."""
        chosen = tf.one_hot(self._positions, self._length, dtype=table.dtype)
        return value + tf.matmul(chosen, table[: self._length])

    def heads(self, value: tf.Tensor) -> list[tf.Tensor]:
        """See `Layout`."""
        depth = value.shape[-1] // self._heads
        moved = _moved(
            tf.reshape(value, [-1, depth]),
            self._rows_of_heads,
            back=self._heads_of_rows,
            back_is_real=tf.repeat(self._row_is_real, self._heads),
        )
        sizes = [size * heads * length for size, heads, length in self._shapes]
        parts = tf.split(moved, sizes) if len(sizes) > 1 else [moved]
        return [
            tf.reshape(part, [*shape, depth])
            for part, shape in zip(parts, self._shapes, strict=True)
        ]

    def joined(self, groups: Sequence[tf.Tensor]) -> tf.Tensor:
        """See `Layout`."""
        depth = groups[0].shape[-1]
        parts = [tf.reshape(group, [-1, depth]) for group in groups]
        moved = _moved(
            tf.concat(parts, 0) if len(parts) > 1 else parts[0],
            self._heads_of_rows,
            back=self._rows_of_heads,
            back_is_real=self._head_is_real,
        )
        return tf.reshape(moved, [-1, self._heads * depth])

    def batch(self, value: tf.Tensor) -> tf.Tensor:
        """See `Layout`."""
        moved = _moved(
            value,
            tf.reshape(self._row_of_place, [-1]),
            is_real=self._place_is_real,
            back=self._place_of_row,
            back_is_real=self._row_is_real,
        )
        return tf.reshape(moved, [self._size, self._length, value.shape[-1]])

    def chosen(self, positions: tf.Tensor) -> Chosen:
        """See `Layout`."""
        rows = tf.gather(tf.gather(self._row_of_place, positions, batch_dims=1), self._order)
        return Chosen(rows, self._heads, group_sizes(self._size), (self._order, self._rank))


class Chosen:
    """Some positions of each sequence.

    Args:
      rows: int32 [B, P], the rows that they are in a layout, sequences in its order.
      heads: N.
      groups: sequences in each group.
      order: the sequences' order and its inverse, int32 [B]; None where it is the batch's.
    """

    def __init__(
        self,
        rows: tf.Tensor,
        heads: int,
        groups: Sequence[Any],
        order: tuple[tf.Tensor, tf.Tensor] | None,
    ) -> None:
        self._rows, self._heads, self._groups, self._order = rows, heads, groups, order

    def take(self, value: tf.Tensor) -> tf.Tensor:
        """Returns [B * P, H] out of a layout's rows [R, H]."""
        return tf.gather(value, tf.reshape(self._rows, [-1]))

    def heads(self, value: tf.Tensor) -> list[tf.Tensor]:
        """Returns rows [B * P, H] as sequences [sequences, N, P, D], group by group."""
        split = _split_heads(value, size_of(self._rows, 0), self._heads)
        return tf.split(split, self._groups) if len(self._groups) > 1 else [split]

    def joined(self, groups: Sequence[tf.Tensor]) -> tf.Tensor:
        """Undoes `heads`."""
        return _join_heads(tf.concat(groups, 0) if len(groups) > 1 else groups[0])

    def batch(self, value: tf.Tensor) -> tf.Tensor:
        """Returns rows [B * P, H] as [B, P, H], in the batch's order."""
        size, count = size_of(self._rows, 0), size_of(self._rows, 1)
        shape = [size, count, value.shape[-1]]
        if self._order is not None:
            order, rank = self._order
            value = _moved(tf.reshape(value, [size, -1]), rank, back=order)
        return tf.reshape(value, shape)


def by_shape(
    mask: tf.Tensor, shapes: Sequence[PackedShape], compute: Callable[[PackedShape | None], Any]
) -> Any:
    """Returns what `compute` returns for the first shape with room for a batch.

    Args:
      mask: int32 [B, S], 0 for padding.
      shapes: each at least as large as the one before, or `EXACT` alone.
      compute: is given None, for padding and all, where no shape has room; returns tensors, of the
        same sizes for every shape.
    """
    if not shapes or EXACT in shapes:
        return compute(shapes[0] if shapes else None)
    counts = tf.sort(tf.reduce_sum(tf.cast(_real(mask), tf.int32), axis=1))
    ends = tf.cumsum(group_sizes(size_of(mask, 0))) - 1
    needed = tf.concat([[tf.reduce_sum(counts)], tf.gather(counts, ends)], 0)
    room = tf.constant([[shape.rows, *shape.lengths] for shape in shapes])
    too_small = tf.reduce_any(needed > room, axis=1)
    branches = [partial(compute, shape) for shape in (*shapes, None)]
    return tf.switch_case(tf.reduce_sum(tf.cast(too_small, tf.int32)), branches)


def group_sizes(batch_size: Any) -> list[Any]:
    """Returns how many sequences each group holds; one group where the number is not known yet."""
    if not isinstance(batch_size, int):
        return [batch_size]
    count = min(MOST_GROUPS, batch_size)
    ends = [batch_size * (group + 1) // count for group in range(count)]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def rows_multiple(batch_size: Any, length: Any) -> int:
    """Returns of how many rows a batch has a whole multiple, a power of two.

    Libraries keep what they made for each number of rows, so that there must be few; 1% of the rows
    count for nothing.

    Args:
      batch_size: B, a number if it is known.
      length: S, likewise.
    """
    if not (isinstance(batch_size, int) and isinstance(length, int)):
        return ROWS_MULTIPLE
    share = max(1, batch_size * length // _MOST_NUMBERS_OF_ROWS)
    return max(ROWS_MULTIPLE, 1 << (share - 1).bit_length())


def rounded_up(value: Any, multiple: int) -> Any:
    """Returns the next multiple of a number or a tensor."""
    return -(-value // multiple) * multiple


def size_of(tensor: tf.Tensor, axis: int) -> Any:
    """Returns a dimension as a number where it is known, else as a tensor."""
    known = tensor.shape[axis]
    return tf.shape(tensor)[axis] if known is None else known


def _real(mask: tf.Tensor) -> tf.Tensor:
    """Returns bool [B, S]: which positions are computed."""
    real = tf.not_equal(mask, 0)
    return real | ~tf.reduce_any(real, axis=1, keepdims=True)


def _bias(mask: tf.Tensor) -> tf.Tensor:
    """Returns what is added to attention scores, float32 [sequences, 1, 1, S]."""
    return (1.0 - tf.cast(mask, tf.float32)[:, None, None, :]) * _MASKED


def _split_heads(value: tf.Tensor, sequences: Any, heads: int) -> tf.Tensor:
    """Returns [sequences, N, S, D] for rows of sequences of equal length."""
    depth = value.shape[-1] // heads
    return tf.transpose(tf.reshape(value, [sequences, -1, heads, depth]), [0, 2, 1, 3])


def _join_heads(value: tf.Tensor) -> tf.Tensor:
    """Undoes `_split_heads`."""
    return tf.reshape(tf.transpose(value, [0, 2, 1, 3]), [-1, value.shape[1] * value.shape[3]])


def _moved(
    value: tf.Tensor,
    index: tf.Tensor,
    *,
    back: tf.Tensor,
    is_real: tf.Tensor | None = None,
    back_is_real: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns rows `index` of `value`, whose gradient is moved, not summed: rows `back` of it.

    Args:
      value: [n, width].
      index: int32 [m].
      back: int32 [n], where in the answer each row of `value` went.
      is_real: bool [m], False for an answer of zeros; None for all.
      back_is_real: bool [n], False for a gradient of zeros; None for all.
    """

    def rows(value: tf.Tensor, index: tf.Tensor, is_real: tf.Tensor | None) -> tf.Tensor:
        taken = tf.gather(value, index)
        return taken if is_real is None else taken * tf.cast(is_real, value.dtype)[:, None]

    @tf.custom_gradient
    def move(value: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return rows(value, index, is_real), lambda upstream: rows(upstream, back, back_is_real)

    return move(value)
