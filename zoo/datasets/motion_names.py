"""What the motions of Motion MNIST are called; without torch, so that top modules of plugins can say so."""

from __future__ import annotations

#: The nine motions; "right" and "down" are those of the screen.
MOTIONS: tuple[str, ...] = (
    "zoom in",
    "zoom out",
    "clockwise",
    "counter-clockwise",
    "left",
    "right",
    "up",
    "down",
    "still",
)
#: Motions by kind; two of a kind exclude each other.
KINDS: dict[str, tuple[str, ...]] = {
    "zoom": MOTIONS[:2],
    "rotation": MOTIONS[2:4],
    "translation": MOTIONS[4:8],
    "static": MOTIONS[8:],
}
