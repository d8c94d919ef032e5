"""Motion MNIST: clips of a digit that zooms, rotates, moves or is static, and classification of its motion.

This module imports no torch, so that top modules of plugins can import it.
"""

from __future__ import annotations

from typing import Final

from zoo.entries import Sample

#: The nine motions; "right" and "down" are those of the screen.
MOTIONS: Final[tuple[str, ...]] = (
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
KINDS: Final[dict[str, tuple[str, ...]]] = {
    "zoom": MOTIONS[:2],
    "rotation": MOTIONS[2:4],
    "translation": MOTIONS[4:8],
    "static": MOTIONS[8:],
}

#: The bundled clips of 16 frames: one of each motion, and two that show several; `sampling` writes them.
SAMPLE: Final = Sample(
    name="motion_mnist",
    resource="zoo_motion_mnist:samples/motion_mnist.safetensors",
    labels=(
        "digit 3, zoom in 3.1 % per frame",
        "digit 0, zoom out 2.7 % per frame",
        "digit 9, clockwise 6.9° per frame",
        "digit 8, counter-clockwise 3.3° per frame",
        "digit 6, left 0.9 pixels per frame",
        "digit 5, right 1.0 pixels per frame",
        "digit 8, up 1.3 pixels per frame",
        "digit 5, down 0.8 pixels per frame",
        "digit 7, still",
        "digit 4, zoom in 4.2 % per frame, clockwise 5.4° per frame",
        "digit 4, zoom in 4.1 % per frame, counter-clockwise 3.5° per frame, left 1.2 pixels per frame",
    ),
    # The last two combine several motions, and are no single class.
    classes=(
        *({"digit": digit, "motion": motion} for digit, motion in zip("309865857", MOTIONS, strict=True)),
        {"digit": "4"},
        {"digit": "4"},
    ),
    license="CC-BY-SA-3.0",
    source="Test digits of the MNIST database (LeCun, Cortes, Burges), zoomed, turned and moved",
)
