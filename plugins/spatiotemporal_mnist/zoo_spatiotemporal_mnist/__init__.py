"""Networks that read blinking, moving MNIST digits (Courtney & Sreenivas, arXiv 2009.07338). Data only."""

from __future__ import annotations

from zoo.entries import InputSpec, ModelEntry, OutputSpec
from zoo.hookspecs import hookimpl

#: The six orders in which the quadrants appear (section 3, task 2).
ORDERS = ("1-2-3-4", "1-2-4-3", "1-4-2-3", "1-4-3-2", "1-3-2-4", "1-3-4-2")

_INPUT = InputSpec(channels="L", frames=48, size=(64, 64))
_OUTPUTS = (
    OutputSpec(name="digit", labels=tuple("0123456789")),
    OutputSpec(name="order", labels=ORDERS),
    OutputSpec(name="speed", kind="value", unit="pixels per frame"),
)
_PAPER = (
    "Logan Courtney, Ramavarapu Sreenivas: Comparison of Spatiotemporal Networks for Learning Video Related Tasks. "
    "arXiv 2009.07338, 2020"
)


def _entry(name: str, summary: str, parameters: int) -> ModelEntry:
    return ModelEntry(
        name=name,
        builder=f"zoo_spatiotemporal_mnist.networks:{name}",
        summary=summary,
        parameters=parameters,
        input=_INPUT,
        outputs=_OUTPUTS,
        paper=_PAPER,
    )


@hookimpl
def zoo_models() -> list[ModelEntry]:
    """The architectures of this plugin."""
    return [
        _entry("conv2d", "Residual 2D convolutions frame by frame, then a two-layer LSTM", 384_881),
        _entry("conv3d", "Residual 3D convolutions, then a two-layer LSTM", 472_721),
    ]
