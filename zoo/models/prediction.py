"""Predictions of models for a batch: labels with probabilities, values with units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from zoo import clips, devices
from zoo.entries import InputSpec, Layout, OutputSpec
from zoo.errors import MemoryLimitError, ModelError, UsageError
from zoo.models.heads import by_head, output_specs, outputs_of_entry
from zoo.models.layouts import fixed, layout_of, to_ncthw
from zoo.models.records import Prediction


def predict(model: nn.Module, batch: Tensor, *, layout: Layout | None = None, top: int = 5) -> list[Prediction]:
    """Return predictions for each sample of a batch, in eval mode; the model's state is restored.

    Args:
        model: A model of the zoo, or any module that returns a tensor or a dict of tensors.
        batch: As the model expects it, N samples.
        layout: Order of the batch's axes; None asks the model and the shape (`zoo.models.layouts.layout_of`). It is
            needed for outputs that are clips, or that may have one row of logits for each frame.
        top: Number of classes to return for each head.

    Returns:
        A `Prediction` for each sample, serializable as JSON (`save`, `load`).

    Raises:
        UnknownNameError: for an unknown layout.
        UsageError: if the batch is not a tensor, or its time axis is needed and unknown.
        ModelError: if the batch does not fit the model, or its output is not finite or has no known heads.
        MemoryLimitError: if not even this batch fits into memory.
    """
    heads = outputs(model, batch)
    with nullcontext() if layout is None else fixed(model, batch, layout):
        return [Prediction.from_record(found) for found in describe(model, batch, heads, top=top)]


def outputs(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """Return a model's outputs for a batch by head, in eval mode; raises as `predict` does."""
    if not isinstance(batch, Tensor):
        raise UsageError(
            f"a batch is a tensor, not {shown(batch)}; `zoo.preprocess(clip, model)` makes one of a file or of frames"
        )
    modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    try:
        set_eval(model)
        with torch.inference_mode():
            output = model(batch)
    except (RuntimeError, MemoryError, ValueError, IndexError) as error:
        if devices.is_out_of_memory(error):
            raise MemoryLimitError(f"a batch of {list(batch.shape)} does not fit into memory: {error}") from error
        raise ModelError(f"a batch of shape {list(batch.shape)} does not fit the model: {error}") from error
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training
    heads = by_head(model, output)
    for name, head in heads.items():
        if not bool(torch.isfinite(head).all()):
            raise ModelError(f"{name} is not a finite number: the weights or the batch hold NaN or infinite values")
    return heads


def shown(value: object) -> str:
    """Describe an argument for messages: tensors by their shapes, never by their numbers."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if hasattr(value, "shape"):  # numpy's arrays
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list | dict):
        parts = list(value.values()) if isinstance(value, dict) else list(value)
        inside = ", ".join(shown(part) for part in parts[:3])
        return f"{type(value).__name__} of {len(parts)} ({inside}{', ...' if len(parts) > 3 else ''})"
    return f"{type(value).__name__} ({str(value)[:80]})"


def set_eval(model: nn.Module) -> None:
    """Switch a model to eval mode; parts that are programs of torch.export, whose mode is fixed, stay as they are."""
    try:
        model.eval()
    except NotImplementedError:
        for module in model.modules():
            if not isinstance(module, torch.fx.GraphModule):
                module.training = False


def describe(model: nn.Module, batch: Tensor, heads: Mapping[str, Tensor], *, top: int = 5) -> list[dict[str, Any]]:
    """Return the records of `predict` for existing outputs."""
    specs = output_specs(model, heads, batch)
    clips = any(spec.kind == "clip" and heads[name].ndim in {4, 5} for name, spec in specs.items())
    given = like_output(model, batch) if clips else batch
    return [
        {name: _describe(heads[name][sample].float(), specs[name], top, given[sample].float()) for name in heads}
        for sample in range(len(batch))
    ]


def like_output(model: nn.Module, batch: Tensor) -> Tensor:
    """Return a batch in the layout of output clips: N x C x T x H x W, or N x C x H x W for pictures.

    Raises:
        UsageError: if the time axis is unknown.
    """
    if batch.ndim != 5:
        return batch
    return to_ncthw(batch, layout_of(model, batch))


def following(
    model: nn.Module, heads: Mapping[str, Tensor], source: str | Path, *, start: float = 0.0, end: float | None = None
) -> dict[str, Tensor]:
    """Return the ground truth of outputs that predict a clip's next frames, by name; empty if the clip ends before.

    Args:
        model: A model of the zoo.
        heads: Its `outputs` for the clip.
        source: The clip, as `zoo.read_clip` takes it.
        start: As there.
        end: As there.

    Returns:
        1 x C x T x H x W or, of one frame, 1 x C x H x W, in the shape and on the device of the outputs.

    Raises:
        As `zoo.read_clip` does.
    """
    found = {}
    for spec in outputs_of_entry(model):
        if spec.kind == "clip" and spec.follows:
            head = heads[spec.name]
            count = head.shape[2] if head.ndim == 5 else 1
            after = clips.following(source, model, count, start=start, end=end)
            times = None if after is None else clips.times_of(after)
            if after is not None and head.ndim == 4:  # one frame may come without an axis of time
                after = after[:, :, 0]
            if after is not None and after.shape == head.shape:
                found[spec.name] = clips.timed(after.to(head), times)
    return found


def missed(given: Tensor, truth: Tensor, read: Tensor) -> tuple[float, float]:
    """Compute the errors of a prediction, and of repeating the last frame, against the frames that follow.

    Args:
        given: Predicted frames, N x C x T x H x W or, of one, N x C x H x W.
        truth: The frames that follow, likewise.
        read: Frames read by the model, as returned by `like_output`: N x C x T x H x W.

    Returns:
        Two means of squared errors over all pixels, in float64.
    """
    given, truth, last = (one.double().cpu() for one in (given, truth, read[:, :, -1]))
    again = last if truth.ndim == 4 else last.unsqueeze(2)
    return float((given - truth).square().mean()), float((again - truth).square().mean())


def to_frames(clip: Tensor, spec: InputSpec | None) -> Tensor:
    """Convert an output clip to displayable pixels, on the CPU.

    Args:
        clip: C x T x H x W or, of one frame, C x H x W.
        spec: The model's input: an output with as many channels is assumed to have the same units. None, or another
            number of channels, stretches the clip from its lowest to its highest value; two channels, or more than
            three, are shown as their mean.

    Returns:
        uint8, T x H x W x C, C is 1 (gray) or 3 (RGB).
    """
    values = clip.detach().float().cpu()
    values = (values if values.ndim == 4 else values.unsqueeze(1)).permute(1, 2, 3, 0)
    if spec is not None and spec.channels != "other" and spec.channel_count == values.shape[-1]:
        low, high = spec.range
        values = (values * values.new_tensor(spec.std) + values.new_tensor(spec.mean) - low) / (high - low)
        values = values.flip(-1) if spec.channels == "BGR" else values
    else:
        values = (values - values.min()) / (values.max() - values.min()).clamp_min(1e-12)
    if values.shape[-1] not in {1, 3}:
        values = values.mean(dim=-1, keepdim=True)
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)


def _describe(head: Tensor, spec: OutputSpec, top: int, clip: Tensor) -> dict[str, Any]:
    if spec.per_frame:
        each = [_describe(row, dataclasses.replace(spec, per_frame=False), 1, clip) for row in head]
        frames = [one["top"][0] if spec.kind == "classes" else one["value"] for one in each]
        return _describe(head.mean(dim=0), dataclasses.replace(spec, per_frame=False), top, clip) | {"frames": frames}
    if spec.kind == "value":
        return {"kind": "value", "value": float(head.reshape(-1)[0]), "unit": spec.unit}
    if spec.kind == "clip":
        return {
            "kind": "clip",
            "shape": list(head.shape),
            "lowest": float(head.min()),
            "highest": float(head.max()),
            "squared_error": (
                float((head - clip).square().mean()) if head.shape == clip.shape and not spec.follows else None
            ),
        }
    labels = dict(enumerate(spec.labels))
    probabilities, indices = head.softmax(-1).topk(min(top, head.numel()))
    return {
        "kind": "classes",
        "top": [
            {"label": labels.get(index, str(index)), "index": index, "probability": probability}
            for probability, index in zip(probabilities.tolist(), indices.tolist(), strict=True)
        ],
    }
