"""How many bits numbers keep: 16 are enough for many networks, and too few for what is made of their numbers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

import zoo
from explain.layouts import entry_of
from zoo import devices
from zoo.errors import MemoryLimitError
from zoo.prediction import describe, outputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

#: Relative change of a value that is told; rounding alone makes less than a hundredth.
TOLD = 0.05


def exact(values: Tensor) -> Tensor:
    """Floating-point numbers of 16 bits as such of 32; others as they are."""
    return values.float() if values.itemsize < 4 else values


@contextmanager
def widened(model: nn.Module) -> Iterator[bool]:
    """Within, parameters and buffers of 16 bits have 32; gives whether there are any. They are back afterwards."""
    narrow: list[tuple[dict[str, Any], str, Tensor]] = [
        (cast("dict[str, Any]", table), name, values)
        for module in model.modules()
        for table in (module._parameters, module._buffers)  # noqa: SLF001 - their values are exchanged, not changed
        for name, values in table.items()
        if values is not None and values.is_floating_point() and values.itemsize < 4
    ]
    try:
        for table, name, values in narrow:
            wide = values.detach().float()
            table[name] = nn.Parameter(wide, requires_grad=False) if isinstance(values, nn.Parameter) else wide
        yield bool(narrow)
    finally:
        for table, name, values in narrow:
            table[name] = values


def computed_in(model: nn.Module, device: torch.device) -> str:
    """The type of the numbers that results come from, where these have 16 bits: "float16", "bfloat16 by autocast".

    Empty for types of 32 bits or more without autocast.
    """
    if torch.is_autocast_enabled(device.type):
        return f"{_named(torch.get_autocast_dtype(device.type))} by autocast"
    dtype = devices.like(model).dtype
    return _named(dtype) if dtype.itemsize < 4 else ""


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def changed(model: nn.Module, clip: Any, name: str, **asked: Any) -> str:
    """What a model that was loaded with another type says differently from one with the architecture's own.

    Args:
        model: The model as it was loaded, with `dtype`.
        clip: The clip, as `zoo.preprocess` takes it.
        name: What it was loaded by.
        asked: What else `zoo.load` was given, but for the device and the type: weights, seed, numbers.

    Returns:
        A sentence; empty where the same classes lead, values and clips differ by less than 5 %, or memory does not hold
        both.
    """
    if entry_of(model) is None:
        return ""
    try:
        own = zoo.load(name, device=str(devices.like(model).device), **asked)
        if devices.like(own).dtype == devices.like(model).dtype:
            return ""
        batches = [zoo.preprocess(clip, one) for one in (model, own)]
        heads = [outputs(one, batch) for one, batch in zip((model, own), batches, strict=True)]
    except MemoryLimitError:
        return ""
    said, meant = (describe(*given, top=1)[0] for given in zip((model, own), batches, heads, strict=True))
    types = [str(devices.like(one).dtype).removeprefix("torch.") for one in (model, own)]
    told = []
    for head, now in said.items():
        before = meant[head]
        if now["kind"] == "classes" and now["top"][0]["label"] != before["top"][0]["label"]:
            told.append(f"{head} {now['top'][0]['label']} instead of {before['top'][0]['label']}")
        elif now["kind"] == "value" and abs(now["value"] - before["value"]) > TOLD * abs(before["value"]):
            told.append(f"{head} {now['value']:.3g} instead of {before['value']:.3g}")
        elif now["kind"] == "clip":
            clips = [one[head].double() for one in heads]
            share = float((clips[0] - clips[1]).norm() / clips[1].norm().clamp(min=torch.finfo(torch.float64).tiny))
            if share > TOLD:
                told.append(f"{head} off by {100 * share:.0f} %")
    if not told:
        return ""
    return (
        f"In {types[0]} the model says something else than in {types[1]}: {', '.join(told)}. What is shown explains "
        f"the changed answer; compute in {types[1]} to explain the model as it was trained."
    )
