"""The section of a report on an STFT network: which frequencies its blocks use, and what their kernels look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from explain.authoring import (
    Content,
    Context,
    Section,
    Sprite,
    clip_sprite,
    colours,
    kernels,
    loops,
    numbers,
    overlay_sprite,
    render,
)
from zoo_stft.blocks import Block
from zoo_stft.spectra import DIRECTIONS, BlockSpectrum, grouped, spectra

_HERE = "zoo_stft"
#: Learned parts of blocks, by class.
_DOES = {
    "STBlock": "Each block of this network looks at its surroundings through fixed waves over space and time. What it "
    "learned is how much of each wave every one of its channels takes.",
    "SBlock": "Each block of this network looks at its surroundings through fixed waves over space, and through "
    "filters over time that it learned.",
    "TBlock": "Each block of this network looks at its surroundings through filters over space that it learned, and "
    "through fixed waves over time, which do not see what stays the same from frame to frame.",
    "FactorisedBlock": "Each block of this network looks at its surroundings through filters over space and over time, "
    "all of which it learned.",
}
#: Names of groups of directions in sentences.
_TOLD = {
    "flicker": "flickers",
    "still": "stands still",
    "moving": "moves",
    "mean": "is the mean of the surroundings",
    "higher": "is of higher frequency",
}
#: Blocks that are shown at length, channels of each, and directions named for each of these.
_BLOCKS, _CHANNELS, _NAMED = 3, 8, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Channel:
    """A strong channel, as the template takes it."""

    channel: int
    #: Root of its energy over the mean of that of all channels of the block.
    strength: float
    #: Places in DIRECTIONS and shares, the largest first.
    leading: list[tuple[int, float]]
    #: The input channel that the picture shows; None if all are seen.
    shown: int | None
    picture: Sprite

    @property
    def data(self) -> dict[str, Any]:
        """Return its numbers."""
        return {
            "channel": self.channel,
            "strength": self.strength,
            "leading": [{"name": DIRECTIONS[place].name, "share": share} for place, share in self.leading],
            "shown_channel": self.shown,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """One block at length."""

    spectrum: BlockSpectrum
    #: Directions (rows, by their places) x channels (columns), and the share that is brightest.
    map: Sprite
    rows: list[int]
    brightest: float
    channels: list[_Channel]

    @property
    def data(self) -> dict[str, Any]:
        """Return its numbers that are not in its spectrum's."""
        return {
            "name": self.spectrum.name,
            "brightest": self.brightest,
            "strongest": [one.data for one in self.channels],
        }


def sections(context: Context) -> list[Section]:
    """Build the section, for models that have such blocks."""
    if not any(isinstance(module, Block) for module in context.model.modules()):
        return []
    return [Section(name="frequencies", title="Which frequencies its blocks use", one=f"{_HERE}.view:build")]


def build(context: Context) -> Content:
    """Spectra of all blocks, and the strongest channels of a few, the first and the last among them."""
    with context.timed("frequencies of the blocks"):
        found = spectra(context.model)
        blocks = list(found.blocks.values())
        modules = dict(context.model.named_modules())
        panels = [
            _panel(context, blocks[place], modules[blocks[place].name], found.used, f"block-{place}")
            for place in numbers.evenly(len(blocks), _BLOCKS)
        ]
    shares = torch.tensor([block.mean_shares for block in blocks]).mean(dim=0).tolist()
    groups = {group: share for group, share in grouped(shares).items() if share > 0}
    data = {**found.data, "groups": groups, "shown": [panel.data for panel in panels]}
    html = render(
        "frequencies.html",
        _HERE,
        data=data,
        directions=DIRECTIONS,
        used=found.used,
        most=max(share for block in blocks for share in block.mean_shares) or 1.0,
        does=" ".join(dict.fromkeys(_DOES.get(block.kind, "") for block in blocks)),
        groups=[(_TOLD[group], share) for group, share in groups.items()],
        coloured=any(panel.spectrum.into == 3 for panel in panels),
        panels=panels,
        loops=lambda picture: loops(context.picture.frames, picture.frames),
        gradient=colours.magnitude().gradient(),
    )
    return Content(
        html=html,
        data=data,
        tensors={f"{block.name}/energy": block.energy for block in blocks},
        sprites=tuple(
            sprite for panel in panels for sprite in (panel.map, *(channel.picture for channel in panel.channels))
        ),
    )


@torch.no_grad()
def _panel(context: Context, block: BlockSpectrum, module: Any, used: list[int], name: str) -> _Panel:
    shares = block.shares
    rows = [place for place in used if float(shares[:, place].max()) > 0]
    # Channels with the same main direction are adjacent, those with a larger share of it further left.
    leading, order = shares[:, rows].max(dim=1)
    columns = sorted(range(len(shares)), key=lambda channel: (int(order[channel]), -float(leading[channel])))
    brightest = float(leading.max()) or 1.0
    values = shares[columns][:, rows].T / brightest
    strengths = block.energy.sum(dim=1).sqrt()
    kernel = module.kernel()
    blue_first = context.entry is not None and context.entry.input.channels == "BGR"
    channels = []
    for place, channel in enumerate(block.strongest(_CHANNELS)):
        own = kernel[channel : channel + 1]
        best = shares[channel].topk(_NAMED)
        channels.append(
            _Channel(
                channel=channel,
                strength=float(strengths[channel] / strengths.mean()) if strengths.any() else 0.0,
                leading=[
                    (direction, share)
                    for direction, share in zip(best.indices.tolist(), best.values.tolist(), strict=True)
                    if share > 0
                ],
                shown=None if own.shape[1] in {1, 3} else kernels.strongest_channel(own, 0),
                picture=clip_sprite(f"{name}-{place}", kernels.pictures(own, blue_first=blue_first)[0], lossy=False),
            )
        )
    return _Panel(
        spectrum=block,
        map=overlay_sprite(f"{name}-map", values[None].numpy(), colours.magnitude()),
        rows=rows,
        brightest=brightest,
        channels=channels,
    )
