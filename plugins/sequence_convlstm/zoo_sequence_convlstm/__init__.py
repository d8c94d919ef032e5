"""A convolutional LSTM that predicts the next frame (Williams, 2025). Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.entries import InputSpec, Metric, ModelEntry, OutputSpec, Sample, WeightsEntry
from zoo.registry.hookspecs import hookimpl
from zoo_sequence_convlstm.recipes import ARGUMENTS, RECIPES, SMALL

if TYPE_CHECKING:
    from zoo.entries.recipes import Recipe

_PAPER = "Henry Williams: Convolutional LSTM For Image Sequence Modelling. Report, 13 January 2025"
_INPUT = InputSpec(channels="L", frames=2, size=(36, 36), sampling="consecutive")
_SAMPLES = (
    Sample(
        name="digit_sequences",
        resource="zoo_sequence_convlstm:samples/digit_sequences.safetensors",
        labels=tuple(f"digit {digit}, 16 frames" for digit in (6, 6, 3, 3, 8, 5)),
        classes=tuple({"digit": digit} for digit in "663385"),
        license="CC-BY-SA-3.0",
        source="Test digits of the MNIST database (LeCun, Cortes, Burges), turned, moved and dimmed, under noise",
    ),
)

#: Of each weights file by name: bytes, SHA-256, and what was measured on the test windows.
_FILES: dict[str, tuple[int, str, dict[str, float]]] = {
    "sequence_convlstm.denoised": (
        9_523_472,
        "1832b2840984861dfb3742b57d003533fbfd1cd07b6e1f002fe372de83d0ac58",
        {
            "N6 squared error": 0.002214,
            "N6 PSNR": 27.39,
            "N6 SSIM": 0.818,
            "N3 squared error": 0.002304,
            "N3 PSNR": 27.06,
            "N3 SSIM": 0.8221,
        },
    ),
    "sequence_convlstm_k16.denoised": (
        613_956,
        "5c43c869e06fe7a3ff287547a81932b93d7be651592d9d6be9ea7ed11055a50b",
        {
            "N6 squared error": 0.002238,
            "N6 PSNR": 27.32,
            "N6 SSIM": 0.8157,
            "N3 squared error": 0.002318,
            "N3 PSNR": 27.05,
            "N3 SSIM": 0.8209,
        },
    ),
    "sequence_convlstm_k16.base": (
        613_956,
        "ebf696e0727454c41733597e883c4fbe5b9012fd9fb68bd76d18b1dc6341da37",
        {
            "N6 squared error": 0.002235,
            "N6 PSNR": 27.33,
            "N6 SSIM": 0.8155,
            "N3 squared error": 0.002312,
            "N3 PSNR": 27.06,
            "N3 SSIM": 0.821,
        },
    ),
    "sequence_convlstm_k16.removed_outliers": (
        613_956,
        "93910bacd7ba5bb8811070ba6354a15f700076fd46c3bfa6eb5d03acbc813a1c",
        {
            "N6 squared error": 0.002251,
            "N6 PSNR": 27.3,
            "N6 SSIM": 0.8154,
            "N3 squared error": 0.002324,
            "N3 PSNR": 27.04,
            "N3 SSIM": 0.821,
        },
    ),
    "sequence_convlstm_k16.fully_processed": (
        613_956,
        "8de07c117bbd66122d2f1452e31699800e6821d03a9c74e810b137c2240c04ce",
        {
            "N6 squared error": 0.002251,
            "N6 PSNR": 27.3,
            "N6 SSIM": 0.8154,
            "N3 squared error": 0.002324,
            "N3 PSNR": 27.04,
            "N3 SSIM": 0.8211,
        },
    ),
}


def _weights(recipe: Recipe) -> WeightsEntry:
    size, sha256, metrics = _FILES[recipe.name]
    place = f"zoo_sequence_convlstm:weights/{recipe.name}"
    return WeightsEntry(
        tag=recipe.name.partition(".")[2],
        source=f"{place}.safetensors",
        bytes=size,
        sha256=sha256,
        recipe=recipe.name,
        metrics=tuple(
            Metric(dataset="digit sequences", split="test", name=name, value=value) for name, value in metrics.items()
        ),
        golden=f"{place}.golden.safetensors",
        record=f"{place}.json",
        arguments=recipe.header.get("arguments"),
    )


def _entry(name: str, summary: str, arguments: dict[str, object], parameters: int, flops: int) -> ModelEntry:
    return ModelEntry(
        name=name,
        builder="zoo_sequence_convlstm.networks:build",
        arguments=arguments,
        summary=summary,
        parameters=parameters,
        flops=flops,
        input=_INPUT,
        outputs=(OutputSpec(kind="clip", follows=True),),
        weights=tuple(
            _weights(recipe) for recipe in RECIPES if recipe.name in _FILES and recipe.name.partition(".")[0] == name
        ),
        samples=_SAMPLES,
        paper=_PAPER,
    )


@hookimpl
def zoo_models() -> list[ModelEntry]:
    """The architectures of this plugin."""
    return [
        _entry(
            "sequence_convlstm",
            "the next frame of two, by four convolutional LSTMs of 71 maps with peepholes",
            ARGUMENTS,
            2_379_424,
            4_718_764_512,
        ),
        _entry(
            "sequence_convlstm_k16",
            "the next frame of two, by two convolutional LSTMs of 16 maps with peepholes",
            SMALL,
            152_977,
            98_910_720,
        ),
    ]


@hookimpl
def explain_sections(context: Any) -> list[Any]:
    """Of the networks of this plugin: what they predict, frame upon frame, and their gates."""
    from explain.authoring import Section
    from zoo_sequence_convlstm.networks import SequenceConvLSTM

    if not isinstance(context.model, SequenceConvLSTM):
        return []
    views = "zoo_sequence_convlstm.views"
    return [
        Section(name="next_frames", title="What it says comes next", build=f"{views}:next_frames", after="prediction"),
        Section(name="gates", title="What its gates do", build=f"{views}:gates", after="units"),
    ]


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """How the weights of this plugin were trained."""
    return list(RECIPES)
