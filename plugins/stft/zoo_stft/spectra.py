"""Frequencies used by each channel of an STFT block: spectra of the blocks' equivalent kernels.

A frequency of figure 3 in arXiv 2007.11365 is a wave along time, rows and columns. One without a spatial component
flickers, one without a temporal component is static, and every other moves: (1, y, x), in units of 1/n, to (-y, -x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from explain.authoring import notebook
from zoo.errors import UsageError
from zoo_stft.blocks import Block

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Group = Literal["flicker", "still", "moving", "mean", "higher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One kind of wave, as a reader knows it."""

    #: Along (T, H, W) in units of 1/n; None for all that figure 3 leaves out.
    frequency: tuple[int, int, int] | None
    group: Group
    sign: str
    name: str


#: In the order shown: 13 frequencies, the mean (which filters that are all fixed do not see), and higher frequencies.
DIRECTIONS: tuple[Direction, ...] = (
    Direction(frequency=(1, 0, 0), group="flicker", sign="flicker", name="flicker"),
    Direction(frequency=(0, 1, 0), group="still", sign="still ―", name="still horizontal stripes"),
    Direction(frequency=(0, 0, 1), group="still", sign="still │", name="still vertical stripes"),
    Direction(frequency=(0, 1, 1), group="still", sign="still ╱", name="still stripes up to the right"),  # noqa: RUF001 - a drawing
    Direction(frequency=(0, 1, -1), group="still", sign="still ╲", name="still stripes down to the right"),
    Direction(frequency=(1, 0, -1), group="moving", sign="→", name="moving right"),
    Direction(frequency=(1, -1, -1), group="moving", sign="↘", name="moving down and right"),
    Direction(frequency=(1, -1, 0), group="moving", sign="↓", name="moving down"),
    Direction(frequency=(1, -1, 1), group="moving", sign="↙", name="moving down and left"),
    Direction(frequency=(1, 0, 1), group="moving", sign="←", name="moving left"),
    Direction(frequency=(1, 1, 1), group="moving", sign="↖", name="moving up and left"),
    Direction(frequency=(1, 1, 0), group="moving", sign="↑", name="moving up"),
    Direction(frequency=(1, 1, -1), group="moving", sign="↗", name="moving up and right"),
    Direction(frequency=(0, 0, 0), group="mean", sign="mean", name="the mean of all"),
    Direction(frequency=None, group="higher", sign="higher", name="higher frequencies"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockSpectrum:
    """Distribution of the energy of a block's kernels over `DIRECTIONS`."""

    #: Name of the block in its model, and of its class.
    name: str
    kind: str
    #: c, b and n.
    into: int
    bottleneck: int
    kernel_size: int
    #: Sums of squares over the kernel's elements and the channels that it reads; f x 15, float64, on the CPU. Real and
    #: imaginary parts of both conjugates count, so that rows sum to those of the kernel itself (Parseval).
    energy: Tensor = field(repr=False)

    @property
    def shares(self) -> Tensor:
        """Return the shares of each channel's energy, f x 15; zeros for a channel without energy."""
        return self.energy / self.energy.sum(dim=1, keepdim=True).clamp_min(torch.finfo(self.energy.dtype).tiny)

    @property
    def mean_shares(self) -> list[float]:
        """Return the mean over channels, each with equal weight."""
        return [float(share) for share in self.shares.mean(dim=0)]

    def strongest(self, count: int) -> list[int]:
        """Return the channels with the most energy, in descending order."""
        return self.energy.sum(dim=1).topk(min(count, len(self.energy))).indices.tolist()

    @property
    def data(self) -> dict[str, Any]:
        """Return its numbers as JSON-ready values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "channels": len(self.energy),
            "into": self.into,
            "bottleneck": self.bottleneck,
            "kernel_size": self.kernel_size,
            "shares": self.mean_shares,
            "groups": grouped(self.mean_shares),
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectra:
    """The spectra of all blocks of a model."""

    #: By name, in the order of `named_modules`.
    blocks: Mapping[str, BlockSpectrum]

    @property
    def data(self) -> dict[str, Any]:
        """Return their numbers as JSON-ready values."""
        return {
            "directions": [
                {"frequency": one.frequency and list(one.frequency), "group": one.group, "name": one.name}
                for one in DIRECTIONS
            ],
            "blocks": [block.data for block in self.blocks.values()],
        }

    def plot(self) -> Figure:
        """Draw the distribution of each block's energy over the directions, on average over its channels.

        Raises:
            UsageError: if there is no block.
        """
        if not self.blocks:
            raise UsageError("no STFT block in this model, so there is nothing to draw; spectra() of one that has some")
        used = self.used
        table = [[block.mean_shares[place] for place in used] for block in self.blocks.values()]
        with notebook.drawing(90 + 46 * len(used), 110 + 18 * len(table)) as drawn:
            axes = drawn.subplots()
            axes.imshow(table, cmap="viridis", vmin=0, aspect="auto")
            axes.set_xticks(range(len(used)), [DIRECTIONS[place].sign for place in used], rotation=90)
            axes.set_yticks(range(len(table)), list(self.blocks))
            middle = max(map(max, table)) / 2
            for row, shares in enumerate(table):
                for column, share in enumerate(shares):
                    ink = "#ffffff" if share < middle else "#111111"
                    axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=ink, fontsize=8)
            notebook.heading(drawn, "Energy of each block by direction, per cent")
        return drawn

    @property
    def used(self) -> list[int]:
        """Return the indices in `DIRECTIONS` that any block can use."""
        shares = torch.stack([block.shares.amax(dim=0) for block in self.blocks.values()]).amax(dim=0)
        return [place for place, share in enumerate(shares.tolist()) if share > 0]


#: Shares below are what rounding leaves.
_NOTHING = 1e-9


def grouped(shares: list[float]) -> dict[str, float]:
    """Sum shares of the 15 directions by group."""
    sums: dict[str, float] = {}
    for direction, share in zip(DIRECTIONS, shares, strict=True):
        sums[direction.group] = sums.get(direction.group, 0.0) + share
    return sums


def spectra(model: nn.Module) -> Spectra:
    """Compute the spectra of a model's STFT blocks, and of the reference blocks; none if it has no such block.

    The kernel of a channel is the block's equivalent kernel for linear activations (`Block.kernel`).
    """
    return Spectra(
        blocks={name: spectrum(name, module) for name, module in model.named_modules() if isinstance(module, Block)}
    )


@torch.no_grad()
def spectrum(name: str, block: Block) -> BlockSpectrum:
    """Compute the spectrum of one block."""
    kernel = block.kernel().cpu().double()
    energy = torch.fft.fftn(kernel, dim=(2, 3, 4)).abs().square().sum(dim=1) / kernel[0, 0].numel()
    total = kernel.square().sum(dim=(1, 2, 3, 4))
    known = []
    for direction in DIRECTIONS:
        if direction.frequency is not None:
            t, y, x = direction.frequency
            known.append((1 if direction.group == "mean" else 2) * energy[:, t, y, x])
    found = torch.stack([*known, total - sum(known)], dim=1)
    found = torch.where(found > _NOTHING * total[:, None], found, 0)
    return BlockSpectrum(
        name=name,
        kind=type(block).__name__,
        into=kernel.shape[1],
        bottleneck=len(block.reduce.filters()),
        kernel_size=kernel.shape[2],
        energy=found,
    )
