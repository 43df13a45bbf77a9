"""What is tried at once: a tile of a stage, a row of a tile, or one element."""

from dataclasses import dataclass

import numpy as np

from ml_verifier.adjudication.refinement import Indices
from ml_verifier.commitment import TILE, matrix_shape, tile_count, tile_grid, tile_shape
from ml_verifier.errors import MalformedOpening


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of a tensor seen as a matrix.

    Attributes:
        tile: Row-major over the tile grid.
        row: A row of the tile; None: all.
        column: An element of the row; None: all.
    """

    tile: int
    row: int | None = None
    column: int | None = None

    def smaller(self) -> "Unit | None":
        """Return the first unit one size below that lies in this one."""
        if self.row is None:
            return Unit(self.tile, 0)
        if self.column is None:
            return Unit(self.tile, self.row, 0)
        return None

    def positions(self, shape: tuple[int, ...]) -> Indices:
        """Return the flat positions of the unit's elements, ascending by row.

        Raises:
            MalformedOpening: The tensor has no such unit.
        """
        if not 0 <= self.tile < tile_count(shape):
            raise MalformedOpening(
                f"expected a tile below {tile_count(shape)}, got {self.tile}"
            )
        height, width = tile_shape(shape, self.tile)
        rows, columns = np.arange(height), np.arange(width)
        if self.row is not None:
            _within(self.row, height)
            rows = rows[self.row : self.row + 1]
        if self.column is not None:
            _within(self.column, width)
            if self.row is None:
                raise MalformedOpening("expected a row beside a column")
            columns = columns[self.column : self.column + 1]
        top, left = divmod(self.tile, tile_grid(shape)[1])
        first = (top * TILE + rows) * matrix_shape(shape)[1] + left * TILE
        return (first[:, None] + columns).reshape(-1).astype(np.int64)


def _within(value: int, extent: int) -> None:
    if not 0 <= value < extent:
        raise MalformedOpening(f"expected a place below {extent}, got {value}")


def unit_at(shape: tuple[int, ...], position: int) -> tuple[Unit, Unit, Unit]:
    """Return the tile, the row and the element at a flat position."""
    row, column = divmod(position, matrix_shape(shape)[1])
    tile = row // TILE * tile_grid(shape)[1] + column // TILE
    r, c = row % TILE, column % TILE
    return Unit(tile), Unit(tile, r), Unit(tile, r, c)
