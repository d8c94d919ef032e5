"""STDCF networks: kernels that are combinations of a few atoms in space and in time (NeurIPS 2021). Data only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.entries import InputSpec, Metric, ModelEntry, OutputSpec, Sample, WeightsEntry
from zoo.registry.hookspecs import hookimpl
from zoo_motion_mnist import MOTIONS, SAMPLE
from zoo_stdcf.recipes import RECIPES

if TYPE_CHECKING:
    from explain.authoring import Context, Section
    from zoo.entries.recipes import Recipe

_PAPER = (
    "Zichen Miao, Ze Wang, Xiuyuan Cheng, Qiang Qiu: Spatiotemporal Joint Filter Decomposition in 3D Convolutional "
    "Neural Networks. NeurIPS 2021"
)
#: Clips of ImageNet's normalisation, as other networks of Kinetics take them.
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

#: Of each weights file by name: bytes, SHA-256, and what was measured on the fixed test clips.
_FILES: dict[str, tuple[int, str, float]] = {
    "stdcf_autoencoder.tr_mnist": (
        7_480,
        "5f653248029b66fb57ea54697cd1e5ef99602697c9713524508472e858693dff",
        0.017454,
    ),
    "rank1_autoencoder.tr_mnist": (
        5_832,
        "f333c43416d3e20c30943cfdf967935ac6f6bd43e735e485fe6887ade4cb3dc2",
        0.01967,
    ),
    "stdcf_autoencoder.tr_mnist_seed2": (
        7_480,
        "76a52d1f64158955de6ac3521d3f0adabb7d72276cc7a9aa811c15d0d99564d2",
        0.014147,
    ),
    "rank1_autoencoder.tr_mnist_seed2": (
        5_832,
        "a237d529303919cb25cc09419446b4a5aa99901d023aa0434e51ff17bffac530",
        0.018692,
    ),
    "stdcf_autoencoder.tr_mnist_seed3": (
        7_480,
        "6a9ff5e97c323999fbcd4f5ee420b98bffb1f207fb96ffa599de162db2457736",
        0.014954,
    ),
    "rank1_autoencoder.tr_mnist_seed3": (
        5_832,
        "4a54fdd5c72e8b9e763e6ee6992cedcf27432d663690ebe202086789b2bba571",
        0.017574,
    ),
    "stdcf_kth.motion_mnist": (
        117_648,
        "97db3b3c0f7e3e9dc545d0d70b03c92cd14afc7420e97e82d79a070ab02e47dd",
        0.9999,
    ),
    "rank1_kth.motion_mnist": (
        170_684,
        "b1eff983fc68f3a24a2a4c061219157135ca409ccfd3b36dc8b8342106a10da6",
        0.9988,
    ),
    "conv3d_kth.motion_mnist": (
        319_164,
        "828c603de7c11d8d4fbfe00983e127d347593614187ede2dc567c379700fa69f",
        0.9994,
    ),
    "stdcf_kth.motion_mnist_itsl": (
        117_648,
        "615a9fb14948d1106b9597bdd5743295e62a84e4aa057abc5521ef07f9e3e220",
        1.0,
    ),
    "stdcf_kth.motion_mnist_short": (
        117_648,
        "4c89f5953f6ba0daca66fbfc5ae6d6dc9746f461fa24885678963b31bf9f2e84",
        0.9875,
    ),
    "stdcf_kth.motion_mnist_itsl_short": (
        117_648,
        "3551fc2456d805a77eb975aeac241bfe7bed3178d69ee579b565791c048cd0fc",
        0.9907,
    ),
}

#: The metric of each kind of network: data set and name.
_METRICS = {"autoencoder": ("tr_mnist", "mean squared error"), "kth": ("motion_mnist", "motion accuracy")}

#: What the layer of nine motions has more than that of KTH's six classes.
_MORE_CLASSES = 65 * (len(MOTIONS) - 6)


def _weights(recipe: Recipe) -> WeightsEntry:
    architecture, _, tag = recipe.name.partition(".")
    size, sha256, value = _FILES[recipe.name]
    place = f"zoo_stdcf:weights/{recipe.name}"
    dataset, name = _METRICS[architecture.partition("_")[2]]
    own = bool(recipe.header)
    return WeightsEntry(
        tag=tag,
        source=f"{place}.safetensors",
        bytes=size,
        sha256=sha256,
        recipe=recipe.name,
        metrics=(Metric(dataset=dataset, split="test", name=name, value=value),),
        golden=f"{place}.golden.safetensors",
        record=f"{place}.json",
        arguments={"classes": len(MOTIONS)} if own else None,
        outputs=(OutputSpec(labels=MOTIONS, argument="classes"),) if own else None,
        parameters=_PARAMETERS[architecture] + _MORE_CLASSES if own else None,
    )


def _bundled(architecture: str) -> tuple[WeightsEntry, ...]:
    return tuple(
        _weights(recipe)
        for recipe in RECIPES
        if recipe.name in _FILES and recipe.name.partition(".")[0] == architecture
    )


_PARAMETERS = {
    "stdcf_autoencoder": 1_590,
    "rank1_autoencoder": 1_248,
    "stdcf_kth": 28_961,
    "rank1_kth": 42_262,
    "conv3d_kth": 79_446,
    "stdcf_r50": 31_910_960,
}


def _autoencoder(name: str, summary: str, flops: int) -> ModelEntry:
    return ModelEntry(
        name=name,
        builder="zoo_stdcf.networks:autoencoder",
        arguments={"kernel": name.partition("_")[0]},
        summary=summary,
        parameters=_PARAMETERS[name],
        flops=flops,
        input=_TWO_DIGITS,
        outputs=(OutputSpec(kind="clip"),),
        weights=_bundled(name),
        samples=(_TR_MNIST,),
        paper=_PAPER,
    )


def _action(name: str, kernel: str, summary: str, flops: int) -> ModelEntry:
    return ModelEntry(
        name=name,
        builder="zoo_stdcf.networks:action",
        arguments={"kernel": kernel, "classes": 6},
        summary=summary,
        parameters=_PARAMETERS[name],
        flops=flops,
        input=_MOTION,
        outputs=(OutputSpec(argument="classes"),),
        weights=_bundled(name),
        samples=(_MOTION_MNIST,),
        paper=_PAPER,
    )


@hookimpl
def zoo_models() -> list[ModelEntry]:
    """The architectures of this plugin."""
    return [
        _autoencoder(
            "stdcf_autoencoder", "autoencoder of clips, of kernels made of atoms in space and in time", 2_611_440
        ),
        _autoencoder("rank1_autoencoder", "autoencoder of clips, of convolutions in space and then in time", 2_916_480),
        _action("stdcf_kth", "stdcf", "three layers of kernels made of atoms in space and in time", 1_077_658_464),
        _action("rank1_kth", "rank1", "three convolutions in space, each followed by one in time", 631_243_520),
        _action("conv3d_kth", "3d", "three 3D convolutions", 1_075_839_744),
        ModelEntry(
            name="stdcf_r50",
            builder="zoo_stdcf.networks:resnet50",
            arguments={"classes": 400, "spatial_atoms": 5, "temporal_atoms": 3},
            summary="ResNet-50 whose bottlenecks hold kernels made of atoms in space and in time",
            parameters=_PARAMETERS["stdcf_r50"],
            flops=133_157_281_792,
            input=_ACTIONS,
            outputs=(OutputSpec(argument="classes"),),
            paper=_PAPER,
        ),
    ]


@hookimpl
def zoo_recipes() -> list[Recipe]:
    """How the weights of this plugin were trained."""
    return list(RECIPES)


@hookimpl
def explain_sections(context: Context) -> list[Section]:
    """Atoms and their energies, reconstructions of both autoencoders, and what a tempo does, where there are any."""
    from explain.authoring import Section
    from zoo_stdcf import atoms_view, reconstruction_view, tempo_view  # they draw, which `zoo list` need not wait for

    views = {
        "stdcf_atoms": ("The atoms of its kernels", atoms_view),
        "stdcf_reconstruction": ("What autoencoders make of the clip", reconstruction_view),
        "stdcf_tempo": ("At another tempo", tempo_view),
    }
    return [
        Section(name=name, title=title, build=f"{view.__name__}:build")
        for name, (title, view) in views.items()
        if view.available(context)
    ]
