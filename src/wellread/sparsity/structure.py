"""Where the living weights of a matrix are, and how they are stored: packed, without the zeros.

Blocks (B x B) are stored row of blocks by row of blocks, each (output, input).  A shape that is no multiple
of B has blocks that reach over its border; what lies outside is zero and stays so.  Single weights are stored
tile by tile of TILE inputs, within a tile row by row: the order in which the kernels read them, the same on
every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

TILE = 64


@dataclass(frozen=True)
class Structure:
    """The living weights of a matrix.

    Attributes:
        shape: (outputs, inputs).
        block: B, or 1 for single weights.
        starts, columns: the rows of the pattern.  Blocks: block b of row r of blocks, for b from starts[r] to
            starts[r + 1] - 1, lies in column columns[b] of blocks; int32.  Single weights: the same for row r
            of tile k at starts[k * (outputs + 1) + r], with the uint8 column within the tile.
        back_starts, back_columns: the same of the transposed matrix.
        order: int32, for each block or weight of the transposed matrix its place in the packed values.
        two_of_four: whether single weights live two in every four neighbouring inputs.
    """

    shape: tuple[int, int]
    block: int
    starts: Tensor
    columns: Tensor
    back_starts: Tensor
    back_columns: Tensor
    order: Tensor
    two_of_four: bool = False
    _copies: dict[torch.device, Structure] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, live: Tensor, block: int = 1) -> Structure:
        """The structure of a mask.

        Args:
            live: (outputs, inputs) bool; with blocks, each block is alive or not as a whole.
            block: B, or 1.
        """
        outputs, inputs = live.shape
        if block == 1:
            mask = live.numpy()
            starts, columns, places = _tiles(mask)
            back_starts, back_columns, back_places = _tiles(np.ascontiguousarray(mask.T))
            number = np.empty(mask.shape, np.int32)
            number.reshape(-1)[places] = np.arange(len(places), dtype=np.int32)
            order = np.ascontiguousarray(number.T).reshape(-1)[back_places]
        else:
            mask = live[::block, ::block].numpy()
            row, column = np.nonzero(mask)
            order = np.lexsort((row, column))
            starts, columns = _ends(mask.sum(1)), column
            back_starts, back_columns = _ends(mask.sum(0)), row[order]
        small = np.uint8 if block == 1 else np.int32
        paired = block == 1 and inputs % 4 == 0 and bool((mask.reshape(-1, 4).sum(1) == 2).all())
        return cls(
            shape=(outputs, inputs),
            block=block,
            starts=_tensor(starts, np.int32),
            columns=_tensor(columns, small),
            back_starts=_tensor(back_starts, np.int32),
            back_columns=_tensor(back_columns, small),
            order=_tensor(order, np.int32),
            two_of_four=paired,
        )

    def to(self, device: torch.device) -> Structure:
        """The same with its tensors on a device; they are copied there once."""
        if device not in self._copies:
            names = ("starts", "columns", "back_starts", "back_columns", "order")
            moved = {name: getattr(self, name).to(device) for name in names}
            self._copies[device] = replace(self, **moved, _copies={})
        return self._copies[device]

    @property
    def values_shape(self) -> tuple[int, ...]:
        """(blocks, B, B), or (weights,)."""
        count = len(self.columns)
        return (count,) if self.block == 1 else (count, self.block, self.block)

    def pack(self, dense: Tensor) -> Tensor:
        """(outputs, inputs) -> the living weights, of shape ``values_shape``; differentiable."""
        if self.block == 1:
            return dense.reshape(-1)[self.places(dense.device)]
        rows, columns = self.block_places(dense.device)
        return self._grid(self._padded(dense))[rows, :, columns, :]

    def unpack(self, values: Tensor) -> Tensor:
        """The living weights -> (outputs, inputs), zeros elsewhere; differentiable."""
        outputs, inputs = self.shape
        if self.block == 1:
            flat = values.new_zeros(outputs * inputs)
            return flat.index_put((self.places(values.device),), values).view(outputs, inputs)
        rows, columns = self.block_places(values.device)
        size, height, width = self.block, -(-outputs // self.block), -(-inputs // self.block)
        grid = values.new_zeros(height, width, size, size).index_put((rows, columns), values)
        return grid.transpose(1, 2).reshape(height * size, width * size)[:outputs, :inputs].contiguous()

    def live(self) -> Tensor:
        """The mask, (outputs, inputs) bool."""
        return self.unpack(torch.ones(self.values_shape)).bool()

    def inside(self) -> Tensor:
        """Bool of ``values_shape``: False for what reaches over the border of the matrix."""
        return self.pack(torch.ones(self.shape)).bool()

    def block_places(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """(blocks,) int64 rows and columns of the living blocks."""
        rows = torch.repeat_interleave(torch.arange(len(self.starts) - 1), self.starts.diff())
        return rows.to(device), self.columns.long().to(device)

    def places(self, device: torch.device | str = "cpu") -> Tensor:
        """(weights,) int64: where each single weight lies in the matrix laid out flat."""
        outputs, inputs = self.shape
        rows = self.starts.view(-1, outputs + 1)
        tile = torch.repeat_interleave(torch.arange(len(rows)), (rows[:, -1] - rows[:, 0]).long())
        row = torch.repeat_interleave(
            torch.arange(outputs).repeat(len(rows)), rows.diff(dim=1).flatten().long()
        )
        return (row * inputs + tile * TILE + self.columns.long()).to(device)

    def _padded(self, dense: Tensor) -> Tensor:
        outputs, inputs = self.shape
        return torch.nn.functional.pad(dense, (0, -inputs % self.block, 0, -outputs % self.block))

    def _grid(self, padded: Tensor) -> Tensor:
        size = self.block
        return padded.view(padded.shape[0] // size, size, padded.shape[1] // size, size)


def _tensor(array: np.ndarray, kind: type) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=kind))


def _ends(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])


def _tiles(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts and columns by tiles, and the place of each weight in the flat matrix, of a bool matrix."""
    outputs, inputs = mask.shape
    starts, columns, places, before = [], [], [], 0
    for first in range(0, inputs, TILE):
        row, column = np.nonzero(mask[:, first : first + TILE])
        starts.append(before + _ends(np.bincount(row, minlength=outputs)))
        columns.append(column)
        places.append(row * inputs + first + column)
        before += len(row)
    return np.concatenate(starts), np.concatenate(columns), np.concatenate(places)
