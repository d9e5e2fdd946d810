"""Products in one order of addition: the plain sum from the left, at every place, bit for bit."""

import numpy as np
import pytest

from data_prep.sentences.compiled_product import product


def _from_the_left(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sum written out: NumPy rounds each product, and then each sum."""
    total = np.zeros((len(x), y.shape[1]), np.float32)
    for k in range(len(y)):
        total += x[:, k : k + 1] * y[k]
    return total


SHAPES = [
    (1, 1, 1), (6, 13, 16), (7, 13, 37), (5, 96, 15), (13, 37, 17), (97, 288, 288), (200, 64, 1024),
    (0, 5, 3), (5, 0, 3), (5, 3, 0),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_product_is_the_sum_from_the_left(shape: tuple[int, int, int]) -> None:
    rows, inner, columns = shape
    draw = np.random.default_rng(7)
    x = draw.normal(size=(rows, inner)).astype(np.float32)
    y = draw.normal(size=(inner, columns)).astype(np.float32)
    found = product(x, y)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, _from_the_left(x, y))
    assert np.abs(found - x.astype(np.float64) @ y).max(initial=0) < 1e-4


def test_a_row_has_one_product_at_every_place() -> None:
    draw = np.random.default_rng(8)
    y = draw.normal(size=(96, 864)).astype(np.float32)
    row = draw.normal(size=(1, 96)).astype(np.float32)
    (alone,) = product(row, y)
    for rows in (1, 5, 96, 97, 128):
        for place in range(rows):
            x = draw.normal(size=(rows, 96)).astype(np.float32)
            x[place] = row
            np.testing.assert_array_equal(product(x, y)[place], alone)


def test_transposed_matrices_are_as_good() -> None:
    draw = np.random.default_rng(9)
    x = draw.normal(size=(13, 7)).astype(np.float32)
    y = draw.normal(size=(37, 13)).astype(np.float32)
    np.testing.assert_array_equal(product(x.T, y.T), _from_the_left(x.T, y.T))


@pytest.mark.parametrize(("x", "y"), [("float64", "float32"), ("float32", "int64")])
def test_other_types_are_refused(x: str, y: str) -> None:
    with pytest.raises(TypeError, match=f"{x} and {y}"):
        product(np.ones((2, 2), x), np.ones((2, 2), y))
