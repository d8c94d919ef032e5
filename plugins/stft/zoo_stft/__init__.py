"""STFT blocks: fixed Fourier filters between 1x1x1 convolutions (Kumawat et al., arXiv 2007.11365). Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo import bundled_weights
from zoo.entries import InputSpec, ModelEntry, OutputSpec, Sample
from zoo.registry.hookspecs import hookimpl
from zoo_motion_mnist import MOTIONS
from zoo_stft.recipes import FRAMES, RECIPES, arguments, clips_of

if TYPE_CHECKING:
    from zoo.entries.recipes import Recipe

_PAPER = (
    "Sudhakar Kumawat, Manisha Verma, Yuta Nakashima, Shanmuganathan Raman: Depthwise Spatio-Temporal STFT "
    "Convolutional Neural Networks for Human Action Recognition. arXiv 2007.11365, 2020"
)
#: Clips of Something-Something (section 5.2), whose classes Table 2 counts with. The paper names no normalization.
_ACTIONS = InputSpec(frames=16, size=(112, 112))
_SAMPLES = (
    Sample(
        name="motion_mnist_32",
        resource="zoo_stft:samples/motion_mnist.safetensors",
        labels=(
            "digit 4, zoom in 1.4 % per frame",
            "digit 2, zoom out 1.8 % per frame",
            "digit 0, clockwise 3.2° per frame",
            "digit 8, counter-clockwise 3.3° per frame",
            "digit 1, left 0.5 pixels per frame",
            "digit 3, right 0.4 pixels per frame",
            "digit 6, up 0.4 pixels per frame",
            "digit 9, down 0.8 pixels per frame",
            "digit 5, still",
        ),
        classes=tuple({"digit": digit, "motion": motion} for digit, motion in zip("420813695", MOTIONS, strict=True)),
        license="CC-BY-SA-3.0",
        source="Test digits of the MNIST database (LeCun, Cortes, Burges), zoomed, turned and moved",
    ),
)

#: Every kind of network: summary; parameters and floating-point operations of one sample, at full width (174 classes)
#: and with all widths divided by 4 (9 classes, gray clips of 64 x 64).
_KINDS: dict[str, tuple[str, tuple[int, int], tuple[int, int] | None]] = {
    "st_stft": (
        "Inception network of fixed Fourier filters over space and time",
        (2_793_013, 6_048_359_080),
        (179_720, 213_397_696),
    ),
    "s_stft": (
        "Inception network of fixed Fourier filters over space, trainable ones over time",
        (2_983_031, 2_693_550_848),
        (184_104, 74_378_496),
    ),
    "t_stft": (
        "Inception network of trainable filters over space, fixed Fourier filters over time",
        (3_217_866, 1_720_406_848),
        (199_479, 39_895_872),
    ),
    "fact_dw": (
        "Inception network of trainable filters over space and over time, map by map",
        (3_227_100, 1_720_406_848),
        (201_801, 39_895_872),
    ),
    "relpv": (
        "Inception network of fixed Fourier filters over space and time on a single map each",
        (1_732_841, 800_099_648),
        (120_642, 46_345_600),
    ),
    "i3d": ("Inception network of 3D convolutions", (12_465_614, 13_832_333_312), (774_369, 306_030_080)),
    "s3d_inception": ("Inception network of convolutions over space, then over time", (8_088_398, 8_948_336_640), None),
}


@hookimpl
def zoo_models() -> list[ModelEntry]:
    """Return the architectures of this plugin."""
    weights = bundled_weights("zoo_stft")
    entries = []
    for kind, (summary, whole, narrow) in _KINDS.items():
        entries.append(
            ModelEntry(
                name=kind,
                builder="zoo_stft.networks:build",
                arguments={"kind": kind, "classes": 174},
                summary=summary,
                parameters=whole[0],
                flops=whole[1],
                input=_ACTIONS,
                outputs=(OutputSpec(argument="classes"),),
                paper=_PAPER,
            )
        )
        if narrow:
            entries.append(
                ModelEntry(
                    name=f"{kind}_w16",
                    builder="zoo_stft.networks:build",
                    arguments=arguments(kind),
                    summary=f"{summary}, a fourth as wide",
                    parameters=narrow[0],
                    flops=narrow[1],
                    input=clips_of(FRAMES),
                    outputs=(OutputSpec(labels=MOTIONS, argument="classes"),),
                    weights=weights[f"{kind}_w16"],
                    samples=_SAMPLES,
                    paper=_PAPER,
                )
            )
    return entries


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """Return the training recipes of this plugin's weights."""
    return list(RECIPES)


@hookimpl
def explain_sections(context: Any) -> list[Any]:
    """Return the section on the frequencies that a network's blocks use, and their equivalent kernels."""
    from zoo_stft import view  # it draws, which `zoo list` need not wait for

    return view.sections(context)
