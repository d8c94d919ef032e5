"""A convolutional LSTM that predicts the next frame (Williams, 2025). Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo import bundled_weights
from zoo.entries import InputSpec, ModelEntry, OutputSpec, Sample, WeightsEntry
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


def _entry(
    name: str,
    summary: str,
    arguments: dict[str, object],
    parameters: int,
    flops: int,
    weights: tuple[WeightsEntry, ...],
) -> ModelEntry:
    return ModelEntry(
        name=name,
        builder="zoo_sequence_convlstm.networks:build",
        arguments=arguments,
        summary=summary,
        parameters=parameters,
        flops=flops,
        input=_INPUT,
        outputs=(OutputSpec(kind="clip", follows=True),),
        weights=weights,
        samples=_SAMPLES,
        paper=_PAPER,
    )


@hookimpl
def zoo_models() -> list[ModelEntry]:
    """Return the architectures of this plugin."""
    weights = bundled_weights("zoo_sequence_convlstm", order=("denoised", "base", "removed_outliers"))
    return [
        _entry(
            "sequence_convlstm",
            "the next frame of two, by four convolutional LSTMs of 71 maps with peepholes",
            ARGUMENTS,
            2_379_424,
            4_718_764_512,
            weights["sequence_convlstm"],
        ),
        _entry(
            "sequence_convlstm_k16",
            "the next frame of two, by two convolutional LSTMs of 16 maps with peepholes",
            SMALL,
            152_977,
            98_910_720,
            weights["sequence_convlstm_k16"],
        ),
    ]


@hookimpl
def explain_sections(context: Any) -> list[Any]:
    """Return the sections on this plugin's networks: their predictions, frame by frame, and their gates."""
    from explain.authoring import Section
    from zoo_sequence_convlstm.networks import SequenceConvLSTM

    if not isinstance(context.model, SequenceConvLSTM):
        return []
    views = "zoo_sequence_convlstm.views"
    return [
        Section(name="next_frames", title="What it says comes next", one=f"{views}:next_frames", after="prediction"),
        Section(name="gates", title="What its gates do", one=f"{views}:gates", after="units"),
    ]


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """Return the training recipes of this plugin's weights."""
    return list(RECIPES)
