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
_FILES: dict[str, tuple[int, str, dict[str, float]]] = {}


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
