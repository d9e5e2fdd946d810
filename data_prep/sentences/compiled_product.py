"""Products of matrices, bit for bit the same on every processor and at every place of a batch.

Libraries of linear algebra add up a row's products in an order that differs between processors,
and on some of them with the number of rows and with the row's place among these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

from data_prep.common.compiled import compiled

# A tile's sums, two vectors of y, one of x and a product fill the 16 vector registers of AVX2.
_TILE_ROWS = 6
_LANES = 8
_PANEL_COLUMNS = 2 * _LANES
# Rows that stay in a core's first cache, with a panel, while all panels pass.
_BLOCK_ROWS = 16 * _TILE_ROWS


def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns x · y, float32 [rows, columns].

    A number of the answer is `x[i, 0] * y[0, j] + x[i, 1] * y[1, j] + …`, added up from the left,
    each product and each sum rounded to float32.

    Args:
      x: float32 [rows, inner].
      y: float32 [inner, columns].

    Raises:
      TypeError: one of them is not of float32.
    """
    if not x.dtype == y.dtype == np.float32:
        raise TypeError(f"a product of {x.dtype} and {y.dtype}; expected two matrices of float32")
    rows, inner = x.shape
    columns = y.shape[1]
    whole_tiles = np.zeros((_rounded_up(rows, _TILE_ROWS), inner), np.float32)
    whole_tiles[:rows] = x
    whole_panels = np.zeros((inner, _rounded_up(columns, _PANEL_COLUMNS)), np.float32)
    whole_panels[:, :columns] = y
    panels = whole_panels.reshape(inner, whole_panels.shape[1] // _PANEL_COLUMNS, _PANEL_COLUMNS)
    out = np.empty((len(whole_tiles), whole_panels.shape[1]), np.float32)
    _multiply(whole_tiles, np.ascontiguousarray(panels.transpose(1, 0, 2)), out)
    return np.ascontiguousarray(out[:rows, :columns])


def _rounded_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


@intrinsic
def _add_up_tile(
    _typing_context: Any, x: Any, panels: Any, out: Any, row: Any, panel: Any
) -> tuple[Any, Callable[..., Any]]:
    """Computes a panel's columns of the `_TILE_ROWS` rows of `out` that begin with `row`.

    Written in LLVM's own operations, since its optimizer would leave the sums in memory.
    Multiplication and addition stay apart: an operation for both rounds once, and some processors
    have none.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, panels, out = (
            (kind, arrayobj.make_array(kind)(context, builder, argument))
            for kind, argument in zip(signature.args[:3], arguments[:3], strict=True)
        )
        row, panel = arguments[3:]
        inner = cgutils.unpack_tuple(builder, x[1].shape)[1]
        vector = ir.VectorType(ir.FloatType(), _LANES)

        def place(array: tuple[Any, Any], *indices: Any) -> Any:
            return cgutils.get_item_pointer(context, builder, *array, indices)

        def vector_place(array: tuple[Any, Any], *indices: Any) -> Any:
            return builder.bitcast(place(array, *indices), vector.as_pointer())

        def after(start: Any, steps: int) -> Any:
            return builder.add(start, start.type(steps))

        def in_all_lanes(value: Any) -> Any:
            first_lanes = ir.VectorType(ir.IntType(32), _LANES)(None)
            alone = builder.insert_element(vector(ir.Undefined), value, ir.IntType(32)(0))
            return builder.shuffle_vector(alone, vector(ir.Undefined), first_lanes)

        tile_rows = [after(row, i) for i in range(_TILE_ROWS)]
        lanes = [row.type(start) for start in range(0, _PANEL_COLUMNS, _LANES)]
        zeros = vector(None)
        sums = [[cgutils.alloca_once_value(builder, zeros) for _ in lanes] for _ in tile_rows]
        with cgutils.for_range(builder, inner) as loop:
            y = [
                builder.load(vector_place(panels, panel, loop.index, lane), align=4)
                for lane in lanes
            ]
            for tile_row, row_sums in zip(tile_rows, sums, strict=True):
                value = in_all_lanes(builder.load(place(x, tile_row, loop.index)))
                for total, values in zip(row_sums, y, strict=True):
                    sum_so_far = builder.fadd(builder.load(total), builder.fmul(value, values))
                    builder.store(sum_so_far, total)
        first_column = builder.mul(panel, panel.type(_PANEL_COLUMNS))
        for tile_row, row_sums in zip(tile_rows, sums, strict=True):
            for total, lane in zip(row_sums, lanes, strict=True):
                column = builder.add(first_column, lane)
                builder.store(builder.load(total), vector_place(out, tile_row, column), align=4)
        return context.get_dummy_value()

    return types.void(x, panels, out, row, panel), generate


@compiled
def _multiply(x: np.ndarray, panels: np.ndarray, out: np.ndarray) -> None:
    """Fills float32 `out` [rows, columns] from `panels` [columns / 16, inner, 16] of y."""
    for block in range(0, len(x), _BLOCK_ROWS):
        for panel in range(len(panels)):
            for row in range(block, min(block + _BLOCK_ROWS, len(x)), _TILE_ROWS):
                _add_up_tile(x, panels, out, row, panel)
