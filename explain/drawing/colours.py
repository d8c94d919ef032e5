"""Color maps of overlays: perceptually ordered, and transparent at zero.

Each map is a palette of 256 RGBA colors, so that an overlay has one byte per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap

#: Blue to pale blue, pale red to red: zero between them is transparent, and the faintest value still shows its sign.
#: Both ends are equally light, so that neither sign dominates.
_DIVERGING = ("#2f6bff", "#4d82ff", "#6b99ff", "#89b0ff", "#ffa590", "#ff8c74", "#ff7055", "#f5392b")

#: Share of a map's values that the color scale covers; the few larger ones are clipped.
_COVERED = 0.99

#: Values below this share of the largest are excluded from that count: most maps are zero nearly everywhere.
_COUNTED = 1e-3

#: Share of the largest magnitude from which an overlay is opaque; opacity rises linearly up to there.
_OPAQUE_FROM = 0.6

#: Share below which it is fully transparent: the palette's nearest colors to zero.
_NOTHING = 0.01


@dataclass(frozen=True, slots=True)
class ColourMap:
    """256 colors for numbers between `low` and `high`."""

    name: str
    low: float
    high: float
    #: 256 x 4, uint8, RGBA.
    palette: npt.NDArray[np.uint8]

    def indices(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
        """Return the palette index of each value; values outside the range are clipped."""
        share = (np.clip(values, self.low, self.high) - self.low) / (self.high - self.low)
        indices: npt.NDArray[np.uint8] = np.rint(share * 255).astype(np.uint8)
        return indices

    def gradient(self, stops: int = 9) -> str:
        """Return the map as a CSS gradient from left to right, for a legend."""
        colours = self.palette[np.linspace(0, 255, stops).round().astype(int)]
        return (
            "linear-gradient(90deg, "
            + ", ".join(
                f"rgb({red} {green} {blue} / {alpha / 255:.3f})" for red, green, blue, alpha in colours.tolist()
            )
            + ")"
        )


def scaled(values: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.floating], float, ColourMap]:
    """Return a map relative to its scale, the scale, and the colors; the scale is the magnitude of the last color.

    One scale for all frames, so that they can be compared; a map of zeros has the scale 0.
    """
    sizes = np.abs(values)
    largest = float(sizes.max())
    scale = float(np.quantile(sizes[sizes >= _COUNTED * largest], _COVERED)) if largest else 0.0
    share = values / scale if scale else values
    colours = signed() if values.min() < 0 < values.max() else magnitude()
    return (share if colours.low < 0 else np.abs(share)), scale, colours


@cache
def magnitude() -> ColourMap:
    """Return the color map for numbers from 0 (transparent) to 1 (pale yellow)."""
    share = np.linspace(0, 1, 256)
    # Without its black start the map stays visible on black frames; lightness still rises steadily.
    return ColourMap("magnitude", 0.0, 1.0, _palette(colormaps["inferno"], 0.25 + 0.75 * share, share))


@cache
def signed() -> ColourMap:
    """Return the color map for numbers from -1 (blue) over 0 (transparent) to 1 (red)."""
    value = np.linspace(-1, 1, 256)
    shades = LinearSegmentedColormap.from_list("signed", _DIVERGING)
    return ColourMap("signed", -1.0, 1.0, _palette(shades, (value + 1) / 2, np.abs(value)))


def _palette(
    colours: Colormap, positions: npt.NDArray[np.floating], magnitudes: npt.NDArray[np.floating]
) -> npt.NDArray[np.uint8]:
    """Return 256 x 4: a color map sampled at positions from 0 to 1, opaque where magnitudes are large."""
    rgba = colours(positions)
    rgba[:, 3] = np.clip((magnitudes - _NOTHING) / (_OPAQUE_FROM - _NOTHING), 0, 1)
    palette: npt.NDArray[np.uint8] = np.rint(255 * rgba).astype(np.uint8)
    return palette
