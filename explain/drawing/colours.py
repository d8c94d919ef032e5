"""Colour maps of the overlays: perceptually ordered, and transparent where there is nothing to see.

Each map is a palette of 256 RGBA colours, so that an overlay is one byte a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap

#: Blue to pale blue, pale red to red: zero between them is transparent, and the faintest value still tells its sign.
#: Both ends are equally light, so that neither sign shouts down the other.
_DIVERGING = ("#2f6bff", "#4d82ff", "#6b99ff", "#89b0ff", "#ffa590", "#ff8c74", "#ff7055", "#f5392b")

#: Share of a map's numbers that its colours cover; the few larger ones take the last colour.
_COVERED = 0.99

#: Numbers below this share of the largest are left out of that count: most maps are zero nearly everywhere.
_COUNTED = 1e-3

#: Share of the largest magnitude from which an overlay is opaque; opacity rises linearly up to there.
_OPAQUE_FROM = 0.6

#: Share below which it is wholly transparent: the palette's nearest colours to zero.
_NOTHING = 0.01


@dataclass(frozen=True, slots=True)
class ColourMap:
    """256 colours for numbers between `low` and `high`."""

    name: str
    low: float
    high: float
    #: 256 x 4, uint8, RGBA.
    palette: npt.NDArray[np.uint8]

    def indices(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
        """Palette index of each value; values outside the range take the nearest end."""
        share = (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)
        indices: npt.NDArray[np.uint8] = np.rint(share * 255).astype(np.uint8)
        return indices

    def gradient(self, stops: int = 9) -> str:
        """The map as a CSS gradient from left to right, for a legend."""
        colours = self.palette[np.linspace(0, 255, stops).round().astype(int)]
        return (
            "linear-gradient(90deg, "
            + ", ".join(
                f"rgb({red} {green} {blue} / {alpha / 255:.3f})" for red, green, blue, alpha in colours.tolist()
            )
            + ")"
        )


def scaled(values: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.floating], float, ColourMap]:
    """A map as shares of the magnitude that takes the last colour, that magnitude, and the colours that show it.

    One scale for all frames, so that moments can be compared; a map of zeros has the scale 0.
    """
    sizes = np.abs(values)
    largest = float(sizes.max())
    scale = float(np.quantile(sizes[sizes >= _COUNTED * largest], _COVERED)) if largest else 0.0
    share = values / scale if scale else values
    colours = signed() if values.min() < 0 < values.max() else magnitude()
    return (share if colours.low < 0 else np.abs(share)), scale, colours


@cache
def magnitude() -> ColourMap:
    """For numbers from 0 (transparent) to 1 (pale yellow)."""
    share = np.linspace(0, 1, 256)
    # Without its black start the map stays visible on black frames; lightness still rises steadily.
    return ColourMap("magnitude", 0.0, 1.0, _palette(colormaps["inferno"], 0.25 + 0.75 * share, share))


@cache
def signed() -> ColourMap:
    """For numbers from -1 (blue) over 0 (transparent) to 1 (red)."""
    value = np.linspace(-1, 1, 256)
    shades = LinearSegmentedColormap.from_list("signed", _DIVERGING)
    return ColourMap("signed", -1.0, 1.0, _palette(shades, (value + 1) / 2, np.abs(value)))


def _palette(
    colours: Colormap, positions: npt.NDArray[np.floating], magnitudes: npt.NDArray[np.floating]
) -> npt.NDArray[np.uint8]:
    """256 x 4: a color map read at positions from 0 to 1, opaque where magnitudes are large."""
    rgba = colours(positions)
    rgba[:, 3] = np.clip((magnitudes - _NOTHING) / (_OPAQUE_FROM - _NOTHING), 0, 1)
    palette: npt.NDArray[np.uint8] = np.rint(255 * rgba).astype(np.uint8)
    return palette
