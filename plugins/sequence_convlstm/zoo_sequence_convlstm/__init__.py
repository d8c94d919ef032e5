"""A convolutional LSTM that predicts the next frame (Williams, 2025). Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.entries import InputSpec, Metric, ModelEntry, OutputSpec, Sample, WeightsEntry
from zoo.hookspecs import hookimpl
from zoo_sequence_convlstm.recipes import ARGUMENTS, RECIPES, SMALL

if TYPE_CHECKING:
    from zoo.training.recipes import Recipe

_PAPER = "Henry Williams: Convolutional LSTM For Image Sequence Modelling. Report, 13 January 2025"
_INPUT = InputSpec(channels="L", frames=2, size=(36, 36), sampling="consecutive")
_SAMPLES = (
    Sample(
        name="digit_sequences",
        resource="zoo_sequence_convlstm:samples/digit_sequences.safetensors",
        labels=tuple(f"digit {digit}, 16 frames" for digit in (6, 6, 3, 3, 8, 5)),
        licence="CC-BY-SA-3.0",
        source="Test digits of the MNIST database (LeCun, Cortes, Burges), turned, moved and dimmed, under noise",
    ),
)

#: Of each weights file by name: bytes, SHA-256, and what was measured on the test windows.
_FILES: dict[str, tuple[int, str, dict[str, float]]] = {
    "sequence_convlstm_k16.denoised": (
        613_956,
        "84e68ea5cd872fccf9cb5ebabcd5c7cef5a3f3d4fe17b79da6cbf74568462d13",
        {
            "N6 squared error": 0.002387,
            "N6 PSNR": 26.97,
            "N6 SSIM": 0.8061,
            "N3 squared error": 0.00251,
            "N3 PSNR": 26.66,
            "N3 SSIM": 0.8107,
        },
    ),
    "sequence_convlstm_k16.base": (
        613_956,
        "2b225ac418ecd3346d0e4e893e07339c8e4b1a3d4b1922f3e0553bea6dd323e1",
        {
            "N6 squared error": 0.002387,
            "N6 PSNR": 26.97,
            "N6 SSIM": 0.806,
            "N3 squared error": 0.002508,
            "N3 PSNR": 26.66,
            "N3 SSIM": 0.8108,
        },
    ),
    "sequence_convlstm_k16.removed_outliers": (
        613_956,
        "c1e048e8e488bc4397b8feb3f57f1df78b08d327a0b1dd0cc3f5ca3688ca4c0f",
        {
            "N6 squared error": 0.002415,
            "N6 PSNR": 26.92,
            "N6 SSIM": 0.8047,
            "N3 squared error": 0.002546,
            "N3 PSNR": 26.6,
            "N3 SSIM": 0.8094,
        },
    ),
    "sequence_convlstm_k16.fully_processed": (
        613_956,
        "06f8280b2df086188a4e394690b84d146cb1dd5483faf250384f2213866f97d5",
        {
            "N6 squared error": 0.002416,
            "N6 PSNR": 26.92,
            "N6 SSIM": 0.8046,
            "N3 squared error": 0.002549,
            "N3 PSNR": 26.59,
            "N3 SSIM": 0.8094,
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
    from explain import Section
    from zoo_sequence_convlstm.networks import SequenceConvLSTM

    if not isinstance(context.model, SequenceConvLSTM):
        return []
    return [
        Section(name="next_frames", title="What it says comes next", build="zoo_sequence_convlstm.views:next_frames"),
        Section(name="gates", title="What its gates do", build="zoo_sequence_convlstm.views:gates"),
    ]


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """How the weights of this plugin were trained."""
    return list(RECIPES)
