"""Axes of a batch: which is time, and the way to N x C x T x H x W and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.entries import InputSpec, Layout, ModelEntry


def entry_of(model: nn.Module) -> ModelEntry | None:
    """The catalogue entry that `zoo.load` left on the model; None for any other module."""
    entry: ModelEntry | None = getattr(model, "zoo_entry", None)
    return entry


def has_random_weights(model: nn.Module) -> bool:
    """Whether `zoo.load` drew the model's weights at random; of any other module nothing is known."""
    report = getattr(model, "zoo_load_report", None)
    return report is not None and report.file is None


def input_of(model: nn.Module) -> InputSpec | None:
    """What the model's entry says of its input; None without an entry."""
    entry = entry_of(model)
    return None if entry is None else entry.input


def layout_of(model: nn.Module, batch: Tensor) -> Layout:
    """Order of the batch's axes: the entry's where the number of axes fits, else NCTHW for five axes and NCHW for four.

    Raises:
        UsageError: The batch has neither four nor five axes, or no sample.
    """
    if batch.ndim not in {4, 5} or batch.shape[0] == 0:
        raise UsageError(
            f"a batch of shape {tuple(batch.shape)} cannot be explained; expected N x C x T x H x W (clips), "
            "N x T x C x H x W where the model's input says so, or N x C x H x W (images), with N of at least 1"
        )
    spec = input_of(model)
    if spec is not None and len(spec.layout) == batch.ndim:
        return spec.layout
    return "NCTHW" if batch.ndim == 5 else "NCHW"


def to_ncthw(batch: Tensor, layout: Layout) -> Tensor:
    """A view of `batch` as N x C x T x H x W; an image is a clip of one frame."""
    if layout == "NCTHW":
        return batch
    return batch.transpose(1, 2) if layout == "NTCHW" else batch.unsqueeze(2)


def from_ncthw(clips: Tensor, layout: Layout) -> Tensor:
    """A view of N x C x T x H x W `clips` in `layout`: the inverse of `to_ncthw`."""
    if layout == "NCTHW":
        return clips
    return clips.transpose(1, 2) if layout == "NTCHW" else clips.squeeze(2)
