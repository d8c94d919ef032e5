"""STDCF networks: kernels that are combinations of a few atoms in space and in time (NeurIPS 2021). Data only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo import bundled_weights
from zoo.entries import InputSpec, ModelEntry, OutputSpec, Sample, WeightsEntry
from zoo.registry.hookspecs import hookimpl
from zoo_motion_mnist import SAMPLE

if TYPE_CHECKING:
    from explain.authoring import Context, Section
    from zoo.entries.recipes import Recipe

_PAPER = (
    "Zichen Miao, Ze Wang, Xiuyuan Cheng, Qiang Qiu: Spatiotemporal Joint Filter Decomposition in 3D Convolutional "
    "Neural Networks. NeurIPS 2021"
)
#: Clips of ImageNet's normalization, as other networks of Kinetics take them.
_ACTIONS = InputSpec(frames=8, size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_MOTION = InputSpec(channels="L", frames=16, size=(64, 64))
_TWO_DIGITS = InputSpec(channels="L", frames=8, size=(28, 28))

_TR_MNIST = Sample(
    name="tr_mnist",
    resource="zoo_stdcf:samples/tr_mnist.safetensors",
    labels=(
        "digits 6 and 2",
        "digits 5 and 7",
        "digits 9 and 7",
        "digits 1 and 6",
        "digits 3 and 3",
        "digits 1 and 3",
    ),
    license="CC-BY-SA-3.0",
    source="Test digits of the MNIST database (LeCun, Cortes, Burges), two at a time, moved and turned",
)
#: The sample clips of Motion MNIST, under a name of this package too.
_MOTION_MNIST = replace(SAMPLE, name="stdcf_motion_mnist")


def _autoencoder(name: str, summary: str, parameters: int, flops: int, weights: tuple[WeightsEntry, ...]) -> ModelEntry:
    return ModelEntry(
        name=name,
        builder="zoo_stdcf.networks:autoencoder",
        arguments={"kernel": name.partition("_")[0]},
        summary=summary,
        parameters=parameters,
        flops=flops,
        input=_TWO_DIGITS,
        outputs=(OutputSpec(kind="clip"),),
        weights=weights,
        samples=(_TR_MNIST,),
        paper=_PAPER,
    )


def _action(
    name: str, kernel: str, summary: str, parameters: int, flops: int, weights: tuple[WeightsEntry, ...]
) -> ModelEntry:
    return ModelEntry(
        name=name,
        builder="zoo_stdcf.networks:action",
        arguments={"kernel": kernel, "classes": 6},
        summary=summary,
        parameters=parameters,
        flops=flops,
        input=_MOTION,
        outputs=(OutputSpec(argument="classes"),),
        weights=weights,
        samples=(_MOTION_MNIST,),
        paper=_PAPER,
    )


@hookimpl
def zoo_models() -> list[ModelEntry]:
    """Return the architectures of this plugin."""
    order = ("motion_mnist", "motion_mnist_itsl", "motion_mnist_short")
    weights = bundled_weights("zoo_stdcf", order=order)
    return [
        _autoencoder(
            "stdcf_autoencoder",
            "autoencoder of clips, of kernels made of atoms in space and in time",
            1_590,
            2_611_440,
            weights["stdcf_autoencoder"],
        ),
        _autoencoder(
            "rank1_autoencoder",
            "autoencoder of clips, of convolutions in space and then in time",
            1_248,
            2_916_480,
            weights["rank1_autoencoder"],
        ),
        _action(
            "stdcf_kth",
            "stdcf",
            "three layers of kernels made of atoms in space and in time",
            28_961,
            1_077_658_464,
            weights["stdcf_kth"],
        ),
        _action(
            "rank1_kth",
            "rank1",
            "three convolutions in space, each followed by one in time",
            42_262,
            631_243_520,
            weights["rank1_kth"],
        ),
        _action("conv3d_kth", "3d", "three 3D convolutions", 79_446, 1_075_839_744, weights["conv3d_kth"]),
        ModelEntry(
            name="stdcf_r50",
            builder="zoo_stdcf.networks:resnet50",
            arguments={"classes": 400, "spatial_atoms": 5, "temporal_atoms": 3},
            summary="ResNet-50 whose bottlenecks hold kernels made of atoms in space and in time",
            parameters=31_910_960,
            flops=133_157_281_792,
            input=_ACTIONS,
            outputs=(OutputSpec(argument="classes"),),
            paper=_PAPER,
        ),
    ]


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """Return the training recipes of this plugin's weights."""
    from zoo_stdcf.recipes import RECIPES  # which `zoo list` need not wait for

    return list(RECIPES)


@hookimpl
def explain_sections(context: Context) -> list[Section]:
    """Return the sections on atoms and their energies, reconstructions, and the effect of a tempo, if applicable."""
    from explain.authoring import Section
    from zoo_stdcf import atoms_view, reconstruction_view, tempo_view  # they draw, which `zoo list` need not wait for

    views = {
        "stdcf_atoms": ("The atoms of its kernels", atoms_view),
        "stdcf_reconstruction": ("What autoencoders make of the clip", reconstruction_view),
        "stdcf_tempo": ("At another tempo", tempo_view),
    }
    return [
        Section(name=name, title=title, one=f"{view.__name__}:build")
        for name, (title, view) in views.items()
        if view.available(context)
    ]
