"""A section of reports: the atoms of every layer, and how much of its energy each pair of them carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import torch
from matplotlib.colors import Normalize, to_hex
from torch import Tensor, nn

from explain.authoring import Content, Context, figures, render
from zoo_stdcf.layer import Stdcf

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

#: Share of the energy that the pairs are counted for which carry most.
MOST: Final = 0.9
#: CSS pixels: an atom in space, its margin, a cell's width, an atom in time, a line of text.
_TILE, _GAP, _CELL, _BARS, _LINE = 44, 8, 66, 46, 18
#: Colors that are also distinguishable with color blindness.
_SIGNED, _SHARES = "PuOr", "viridis"


@dataclass(frozen=True, slots=True, kw_only=True)
class Energies:
    """Distribution of the energy of a layer's kernels over pairs of atoms."""

    #: M x N, float64, of sum 1: the share of each pair, a_ij / Σ a_ij with a_ij = Σ_oc (alpha_ocij |ψ_i| |φ_j|)².
    shares: Tensor
    #: |W|² / Σ a_ij: 1 where atoms are orthogonal; above, pairs add to each other, below, they cancel.
    overlap: float

    @property
    def strongest(self) -> tuple[int, int]:
        """Return the pair with the largest share: numbers of its atom in space and in time."""
        return divmod(int(self.shares.argmax()), self.shares.shape[1])

    @property
    def needed(self) -> int:
        """Return the smallest number of pairs that hold `MOST` of the energy."""
        carried = self.shares.flatten().sort(descending=True).values.cumsum(0)
        return min(int((carried < MOST).sum()) + 1, self.shares.numel())


def energies(layer: Stdcf) -> Energies:
    """Compute the energy of each pair of atoms of a layer.

    The kernel from channel c to channel o is a sum of pairs, alpha_ocij ψ_i φ_j (equation 1), each of energy
    (alpha_ocij |ψ_i| |φ_j|)². Atoms are not orthogonal, so these do not add up to the energy of the kernels, |W|².
    """
    psi, phi, alpha, kernel = (value.detach().double().cpu() for value in (*_atoms(layer), layer.kernel()))
    own = alpha.square().sum(dim=(0, 1)) * psi.square().sum(dim=(1, 2))[:, None] * phi.square().sum(dim=1)
    total = own.sum().clamp_min(torch.finfo(own.dtype).tiny)
    return Energies(shares=own / total, overlap=float(kernel.square().sum() / total))


def _atoms(layer: Stdcf) -> tuple[Tensor, Tensor, Tensor]:
    return layer.psi, layer.phi, layer.alpha


def layers(model: nn.Module) -> dict[str, Stdcf]:
    """Return the layers of atoms, by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, Stdcf)}


def available(context: Context) -> bool:
    """Check whether the model has layers of atoms."""
    return bool(layers(context.model))


def build(context: Context) -> Content:
    """Draw one figure for each layer, and the same as a table."""
    shown: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for place, (name, layer) in enumerate(layers(context.model).items()):
        found = energies(layer)
        space, time = found.strongest
        row: dict[str, Any] = {
            "layer": name,
            "spatial_atoms": len(layer.psi),
            "temporal_atoms": len(layer.phi),
            "kernel": list(layer.kernel_size),
            "channels": [layer.in_channels, layer.out_channels],
            "shares": found.shares.tolist(),
            "strongest": [space + 1, time + 1],
            "highest": float(found.shares.max()),
            "even": 1 / found.shares.numel(),
            "needed": found.needed,
            "overlap": found.overlap,
        }
        told.append(row)
        shown.append({**row, "pairs": found.shares.numel(), "drawing": picture(f"atoms-{place}", name, layer, found)})
        tensors |= {f"{name}/psi": layer.psi, f"{name}/phi": layer.phi, f"{name}/shares": found.shares}
    html = render("atoms.html", "zoo_stdcf", layers=shown, most=MOST)
    return Content(html=html, data={"most": MOST, "layers": told}, tensors=tensors)


def picture(name: str, layer: str, atoms: Stdcf, found: Energies) -> Markup:
    """Draw atoms in space down the left, atoms in time along the top, and between them the energy of each pair."""
    psi, phi = (value.detach().double().cpu().tolist() for value in (atoms.psi, atoms.phi))
    left, top = 2 * _LINE + _TILE + _GAP, _LINE + _BARS + _GAP
    width, height = left + _CELL * len(phi), top + (_TILE + _GAP) * len(psi)
    with figures.style():
        drawn = figures.figure(width, height)
        drawn.set_layout_engine("none")
        axes = drawn.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        for row, atom in enumerate(psi):
            y = top + (_TILE + _GAP) * row
            _write(axes, _LINE, y + _TILE / 2, f"ψ{row + 1}")
            _tile(axes, 2 * _LINE, y, atom, max(abs(value) for one in psi for line in one for value in line))
        for column, taps in enumerate(phi):
            x = left + _CELL * column
            _write(axes, x + _CELL / 2, _LINE / 2, f"φ{column + 1}")
            _bars(axes, x, _LINE, taps, max(abs(value) for one in phi for value in one))
        colours, norm = mpl.colormaps[_SHARES], Normalize(0, float(found.shares.max()) or 1.0)
        for row, shares in enumerate(found.shares.tolist()):
            for column, share in enumerate(shares):
                colour = colours(norm(share))
                x, y = left + _CELL * column, top + (_TILE + _GAP) * row
                _box(axes, x, y, _CELL - 2, _TILE + _GAP - 2, to_hex(colour))
                _write(axes, x + _CELL / 2 - 1, y + _TILE / 2 + 3, _percent(share), figures.readable_on(colour))
        label = f"Atoms of {layer} in space and in time, and the share of energy of each pair; the table below holds it"
        return figures.svg(drawn, name, label)


def _tile(axes: Axes, x: float, y: float, atom: Sequence[Sequence[float]], largest: float) -> None:
    colours, norm = mpl.colormaps[_SIGNED], Normalize(-(largest or 1.0), largest or 1.0)
    side = _TILE / len(atom)
    axes.add_patch(
        mpl.patches.Rectangle((x, y), _TILE, _TILE, facecolor="none", edgecolor=figures.SOFT, linewidth=1, zorder=2)
    )
    for row, values in enumerate(atom):
        for column, value in enumerate(values):
            # A little larger than it is: the ground would show through the seams.
            wide, tall = (min(side + 0.5, _TILE - side * at) for at in (column, row))
            _box(axes, x + side * column, y + side * row, wide, tall, to_hex(colours(norm(value))))


def _bars(axes: Axes, x: float, y: float, taps: Sequence[float], largest: float) -> None:
    """Draw a bar a frame, up where the atom is positive."""
    middle, step = y + _BARS / 2, (_CELL - 2 * _GAP) / len(taps)
    for at, value in enumerate(taps):
        tall = _BARS / 2 * value / (largest or 1.0)
        place = x + _GAP + step * at + 0.1 * step
        _box(
            axes,
            place,
            middle - max(tall, 0.0),
            0.8 * step,
            abs(tall),
            figures.SERIES[0] if tall > 0 else figures.SERIES[1],
        )
    axes.plot([x + _GAP, x + _CELL - _GAP], [middle, middle], color=figures.SOFT, linewidth=1)


def _box(axes: Axes, x: float, y: float, width: float, height: float, colour: str) -> None:
    axes.add_patch(mpl.patches.Rectangle((x, y), width, height, facecolor=colour, edgecolor="none"))


def _write(axes: Axes, x: float, y: float, text: str, colour: str = figures.INK) -> None:
    axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=11)


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.0995 else 1}f}\N{NARROW NO-BREAK SPACE}%"
