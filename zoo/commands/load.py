"""`zoo load`."""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from typing import TYPE_CHECKING, Any

import click

from zoo.commands.shared import options, output

if TYPE_CHECKING:
    from zoo.models.inflation import Adapt


@click.command(
    cls=options.Examples,
    epilog="zoo load conv3d --device cpu\n"
    "zoo load 3t_resnet18_w16 --weights 2d_resnet18_w16 --adapt inflate\n"
    "zoo load conv3d --num-classes digit=4 --in-channels 3",
)
@click.argument("model")
@click.option("--dtype", help="Floating-point type, such as bfloat16; as built by default.")
@click.option(
    "--adapt",
    type=click.Choice(["inflate"]),
    help="Take the convolutions of a 2D network's weights, with the same names, into the 3D ones of MODEL.",
)
@options.num_classes
@options.in_channels
@click.option("--no-mmap", is_flag=True, help="Read the file at once instead of mapping it (network disks).")
@options.weights
@options.device
@options.seed
@options.offline
@options.token
@options.as_json
def load(
    model: str,
    dtype: str | None,
    adapt: Adapt | None,
    num_classes: int | dict[str, int] | None,
    in_channels: int | None,
    weights: str,
    device: str,
    seed: int,
    token: str | None,
    *,
    no_mmap: bool,
    offline: bool,
    as_json: bool,
) -> None:
    """Load MODEL and print the load report: tensors that were loaded, adapted, skipped and initialized.

    MODEL is a name of the catalog, or hub:ORG/REPO@REVISION for a repository made by `zoo push`.
    """
    from zoo.models import loading

    loaded = loading.load(
        model,
        weights=options.resolve_weights(weights),
        device=device,
        dtype=dtype,
        num_classes=num_classes,
        in_channels=in_channels,
        adapt=adapt,
        seed=seed,
        offline=offline,
        token=token,
        mmap=not no_mmap,
    )
    report: Any = loaded.zoo_load_report
    data = dataclasses.asdict(report)
    lines = [f"{name:<13}{_shown(value)}" for name, value in data.items() if "_names" not in name]
    if report.taken:  # where nothing was taken, everything is random
        lines += _grouped("adapted", report.adapted_names) if report.adapted < report.taken else []
        lines += _grouped("left in the file", report.left_names)
        lines += _grouped("initialised", report.initialised_names)
    output.emit(data, lines, as_json=as_json)


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    if isinstance(value, tuple):
        value = ", ".join(value)
    return "-" if value in (None, "") else value


def _grouped(title: str, names: tuple[str, ...]) -> list[str]:
    """Format names of tensors under a title, grouping those of similar modules; empty for no names."""
    tensors: dict[str, list[str]] = {}
    for name in names:
        module, _, tensor = name.rpartition(".")
        tensors.setdefault(module, []).append(tensor)
    modules: dict[str, list[str]] = {}
    for module, found in tensors.items():
        modules.setdefault(", ".join(found), []).append(module or "the model itself")
    lines = [f"{found} of {', '.join(alike)}" for found, alike in modules.items()]
    wrapped = [textwrap.wrap(line, 100, initial_indent="  ", subsequent_indent="    ") for line in lines]
    return ["", f"{title}:", *itertools.chain(*wrapped)] if names else []
