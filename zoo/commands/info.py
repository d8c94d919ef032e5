"""`zoo info`."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from zoo.commands.shared import options, output
from zoo.errors import ZooError
from zoo.registry import resolving

if TYPE_CHECKING:
    from zoo.entries import ModelEntry, WeightsEntry


@click.command(cls=options.Examples, epilog="zoo info conv3d.blinking_mnist")
@click.argument("name")
@click.option("--flops", "counted", is_flag=True, help="Count floating-point operations now; this builds the model.")
@options.offline
@options.token
@options.as_json
def info(name: str, token: str | None, *, counted: bool, offline: bool, as_json: bool) -> None:
    """Show everything the catalogue knows of one model."""
    from zoo.training import evaluation
    from zoo.weights import torch_files

    entry = resolving.info(name, offline=offline, token=token)
    if counted:
        from zoo.models import flops

        entry = dataclasses.replace(entry, flops=flops.flops(entry))
    data = _describe(entry)
    lines = [
        f"{entry.name}: {entry.summary}",
        f"parameters  {entry.parameters:,}",
        *([] if entry.flops is None else [f"operations  {entry.flops:,} floating-point operations a clip"]),
        f"licence     {entry.license}",
        f"paper       {entry.paper or '-'}",
        f"input       {entry.input.layout}, {entry.input.channels}, {entry.input.frames} frames of "
        f"{entry.input.size[1]} x {entry.input.size[0]} pixels, {entry.input.sampling} sampling",
    ]
    for head in entry.outputs:
        what = f"{len(head.labels)} classes: {_shortened(head.labels)}" if head.kind == "classes" else head.unit
        lines.append(f"output      {head.name}, {head.kind} {what}".rstrip())
    for weights in entry.weights:
        lines += [
            "",
            f"weights     {weights.tag}: {weights.bytes:,} bytes, {weights.license}, recipe {weights.recipe or '-'}",
        ]
        lines += [f"sha256      {weights.sha256}{'...' if weights.is_foreign else ''}"]
        lines += [
            f"            not on this machine; downloaded on first use from {weights.source}"
        ] * torch_files.is_missing(weights)
        count = None
        with suppress(ZooError):  # a damaged record is reported by the commands that need it
            count = evaluation.clips_measured(weights)
        if weights.metrics and count is not None:  # of all metrics together: each may concern a part of the clips
            lines.append(f"measured    on {count:,} clip{'s' * (count != 1)}")
        lines += [f"metric      {m.dataset} {m.split}: {m.name} {m.value:g}" for m in weights.metrics]
    if not entry.weights:
        lines += ["", "weights     none trained; `--weights none` gives random ones"]
    for sample in entry.samples:
        lines += [
            "",
            f"samples     sample:{sample.name}, {len(sample.labels)} clips, {sample.license}, {sample.source}",
        ]
        lines += [f"            sample:{sample.name}/{index}  {label}" for index, label in enumerate(sample.labels)]
    output.emit(data, lines, as_json=as_json)


def _describe(entry: ModelEntry) -> dict[str, Any]:
    """Return an entry as JSON."""
    data = dataclasses.asdict(entry)
    data["weights"] = [_describe_weights(weights) for weights in entry.weights]
    data["samples"] = [
        {
            "name": f"sample:{sample.name}",
            "labels": list(sample.labels),
            "classes": [dict(one) for one in sample.classes],
            "license": sample.license,
            "source": sample.source,
        }
        for sample in entry.samples
    ]
    return data


def _describe_weights(weights: WeightsEntry) -> dict[str, Any]:
    from zoo.weights import torch_files

    return {
        "tag": weights.tag,
        "source": weights.source,
        "bytes": weights.bytes,
        "sha256": weights.sha256,
        "license": weights.license,
        "recipe": weights.recipe,
        "record": weights.record,
        "metrics": [dataclasses.asdict(metric) for metric in weights.metrics],
        **({"to_download": torch_files.is_missing(weights)} if weights.is_foreign or weights.is_hub else {}),
    }


def _shortened(labels: tuple[str, ...], most: int = 10) -> str:
    return ", ".join(labels[:most]) + (", ..." if len(labels) > most else "")
