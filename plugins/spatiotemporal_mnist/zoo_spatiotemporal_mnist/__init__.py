"""Networks that read blinking, moving MNIST digits (Courtney & Sreenivas, arXiv 2009.07338). Data only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.entries import InputSpec, Metric, ModelEntry, OutputSpec, Sample, WeightsEntry
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
#: Metrics of all weights files, on the fixed test clips (as many as each record says).
_METRICS = ("digit accuracy", "order accuracy", "speed mean absolute error", "rounded speed accuracy")

#: Of each weights file by architecture: bytes, SHA-256, metrics.
_FILES: dict[str, tuple[int, str, tuple[float, float, float, float]]] = {
    "conv2d": (
        1_567_892,
        "a1114ead8d6d29de1d393ec4ad3cca1df86dc7685ef679e051f2c752c7db2e9e",
        (0.9798, 0.992, 0.1535, 0.9389),
    ),
    "conv3d": (
        1_919_308,
        "d754d9ee4e1c4a43b9ab18e9d6639a21ad3187457b1f81121c8143ae0d59a1b0",
        (0.9674, 0.9883, 0.1747, 0.931),
    ),
    "convlstm": (
        1_771_324,
        "953bd5c59a4a155b0eb280acb281d25446fee3e8fed547c48b90ecc06f12a91e",
        (0.9412, 0.9694, 0.2827, 0.873),
    ),
    "conv2d_xl": (
        2_839_180,
        "55ad4904b884a84220424995791e3c17183a586bb3b8441a03bfcbbcc84088ba",
        (0.9802, 0.9916, 0.1507, 0.9402),
    ),
    "conv3d_xl": (
        4_614_812,
        "94e9b42572d86f4becde4f6d04177c34536c3ae52118f3be22bed96b99328eba",
        (0.965, 0.9892, 0.1743, 0.9332),
    ),
    "ts_conv3d_xl": (
        4_614_812,
        "568114219c2f3ff430d71731796a34071a3022c42e900f251684f936b0065b03",
        (0.9241, 0.8695, 0.2243, 0.9023),
    ),
    "convlstm_xl": (
        7_893_492,
        "f9543abd039ecc40ae97d97799733a74edf0e5087c498460be4c050c8a905fe7",
        (0.9355, 0.9635, 0.2949, 0.8715),
    ),
}


def _weights(architecture: str) -> tuple[WeightsEntry, ...]:
    size, sha256, values = _FILES[architecture]
    place = f"zoo_spatiotemporal_mnist:weights/{architecture}.blinking_mnist"
    metrics = zip(_METRICS, values, strict=True)
    return (
        WeightsEntry(
            tag="blinking_mnist",
            source=f"{place}.safetensors",
            bytes=size,
            sha256=sha256,
            recipe=f"{architecture}.blinking_mnist",
            metrics=tuple(Metric(dataset="blinking_mnist", split="test", name=k, value=v) for k, v in metrics),
            golden=f"{place}.golden.safetensors",
            record=f"{place}.json",
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
    """The architectures of this plugin."""
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
            weights=_weights(name),
            samples=_SAMPLES,
            paper=_PAPER,
        )
        for name, summary, parameters, flops in _ARCHITECTURES
    ]


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """How the weights of this plugin were trained."""
    from zoo_spatiotemporal_mnist.recipes import RECIPES  # which `zoo list` need not wait for

    return list(RECIPES)


@hookimpl
def explain_comparisons(contexts: list[Any]) -> list[Any]:
    """Speed errors over speed and visibility, orders and digits, for models that were measured on them."""
    from zoo_spatiotemporal_mnist import comparisons  # it draws, which `zoo list` need not wait for

    return list(comparisons.sections(contexts))
