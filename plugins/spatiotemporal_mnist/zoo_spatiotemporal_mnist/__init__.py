"""Networks that read blinking, moving MNIST digits (Courtney & Sreenivas, arXiv 2009.07338). Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo import bundled_weights
from zoo.entries import InputSpec, ModelEntry, OutputSpec, Sample
from zoo.registry.hookspecs import hookimpl

if TYPE_CHECKING:
    from zoo.entries.recipes import Recipe

#: The six orders in which the quadrants appear (section 3, task 2).
ORDERS = ("1-2-3-4", "1-2-4-3", "1-4-2-3", "1-4-3-2", "1-3-2-4", "1-3-4-2")

_INPUT = InputSpec(channels="L", frames=48, size=(64, 64))
_OUTPUTS = (
    OutputSpec(name="digit", labels=tuple("0123456789"), argument="digits"),
    OutputSpec(name="order", labels=ORDERS, argument="orders"),
    OutputSpec(name="speed", kind="value", unit="pixels per frame"),
)
_PAPER = (
    "Logan Courtney, Ramavarapu Sreenivas: Comparison of Spatiotemporal Networks for Learning Video Related Tasks. "
    "arXiv 2009.07338, 2020"
)
_SAMPLES = (
    Sample(
        name="blinking_mnist",
        resource="zoo_spatiotemporal_mnist:samples/blinking_mnist.safetensors",
        labels=(
            "digit 4, order 1-2-3-4, 2 pixels per frame, visible every frame",
            "digit 3, order 1-3-2-4, 2 pixels per frame, visible every 2 frames",
            "digit 2, order 1-2-4-3, 3 pixels per frame, visible every 4 frames",
            "digit 5, order 1-3-4-2, 4 pixels per frame, visible every 6 frames",
            "digit 8, order 1-4-2-3, 2 pixels per frame, visible every 12 frames",
            "digit 0, order 1-4-3-2, 6 pixels per frame, visible every 8 frames",
        ),
        classes=(
            {"digit": "4", "order": "1-2-3-4"},
            {"digit": "3", "order": "1-3-2-4"},
            {"digit": "2", "order": "1-2-4-3"},
            {"digit": "5", "order": "1-3-4-2"},
            {"digit": "8", "order": "1-4-2-3"},
            {"digit": "0", "order": "1-4-3-2"},
        ),
        license="CC-BY-SA-3.0",
        source="Test digits of the MNIST database (LeCun, Cortes, Burges), cut into quadrants, moved and blinked",
    ),
)
#: Every architecture: name, summary, parameters, floating-point operations of one sample.
_ARCHITECTURES = (
    ("conv2d", "Residual 2D convolutions frame by frame, then a two-layer LSTM", 384_881, 652_775_680),
    ("conv3d", "Residual 3D convolutions, then a two-layer LSTM", 472_721, 964_202_752),
    ("convlstm", "Residual blocks of convolutional LSTMs", 436_961, 2_536_280_320),
    ("conv2d_xl", "Wider residual 2D convolutions frame by frame, then a two-layer LSTM", 701_513, 1_790_752_032),
    ("conv3d_xl", "Wider residual 3D convolutions, then a two-layer LSTM", 1_145_393, 3_287_725_344),
    (
        "ts_conv3d_xl",
        "Residual 3D convolutions that stride in time as in space, then a two-layer LSTM",
        1_145_393,
        716_240_160,
    ),
    ("convlstm_xl", "Wider residual blocks of convolutional LSTMs", 1_966_805, 11_302_106_400),
)


@hookimpl
def zoo_models() -> list[ModelEntry]:
    """Return the architectures of this plugin."""
    weights = bundled_weights("zoo_spatiotemporal_mnist")
    return [
        ModelEntry(
            name=name,
            builder="zoo_spatiotemporal_mnist.networks:build",
            arguments={"design": name},
            summary=summary,
            parameters=parameters,
            flops=flops,
            input=_INPUT,
            outputs=_OUTPUTS,
            weights=weights[name],
            samples=_SAMPLES,
            paper=_PAPER,
        )
        for name, summary, parameters, flops in _ARCHITECTURES
    ]


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """Return the training recipes of this plugin's weights."""
    from zoo_spatiotemporal_mnist.recipes import RECIPES  # which `zoo list` need not wait for

    return list(RECIPES)


@hookimpl
def explain_comparisons(contexts: list[Any]) -> list[Any]:
    """Return the sections on speed errors by speed and visibility, orders and digits, for models measured on them."""
    from zoo_spatiotemporal_mnist import comparisons  # it draws, which `zoo list` need not wait for

    return list(comparisons.sections(contexts))
