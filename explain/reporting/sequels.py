"""How a clip goes on, for outputs that predict it, and how far off they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from explain.layouts import entry_of
from zoo import clips, prediction
from zoo.errors import ZooError
from zoo.prediction import describe, like_output, outputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from zoo.clips import Clip


def ask(
    model: nn.Module, clip: Clip, batch: Tensor, *, top: int = 5
) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """What a model says about a clip, and what it should have said where that is known.

    Args:
        model: The model.
        clip: The clip as it was read.
        batch: The same as the model takes it.
        top: As in `zoo.predict`.

    Returns:
        What `zoo.predict` gives of the sample. Outputs that predict (`OutputSpec.follows`) also say so as "follows";
        their "squared_error" is from what follows, None where the clip ends before, and "last_frame_again" is that of
        the clip's last frame in their place. Then what follows, 1 x C x T x H x W on the CPU, or 1 x C x H x W like the
        output, by the outputs that predict it.
    """
    heads = outputs(model, batch)
    said = describe(model, batch, heads, top=top)[0]
    entry = entry_of(model)
    predicted = [spec.name for spec in entry.outputs if spec.kind == "clip" and spec.follows] if entry else []
    known = (
        prediction.following(model, heads, clip.source, start=clip.start, end=clip.end)
        if predicted and _begins(model, clip)
        else {}
    )
    found = {name: clips.timed(after.float().cpu(), clips.times_of(after)) for name, after in known.items()}
    for name in predicted:
        said[name] |= {"follows": True, "squared_error": None, "last_frame_again": None}
        if name in found:
            far = prediction.missed(heads[name], found[name], like_output(model, batch))
            said[name] |= dict(zip(("squared_error", "last_frame_again"), far, strict=True))
    return said, found


def following(model: nn.Module, clip: Clip, count: int) -> Tensor | None:
    """The frames after a clip, prepared as the model's input is: 1 x C x count x H x W on the CPU.

    None where it ends before, and where it is not what stands at the beginning of its source: frames given in memory,
    or a part of a video.
    """
    return clips.following(clip.source, model, count, start=clip.start, end=clip.end) if _begins(model, clip) else None


def _begins(model: nn.Module, clip: Clip) -> bool:
    """Whether a clip is what its source shows from the clip's start on."""
    try:
        again = clips.decode(clip.source, start=clip.start, end=clip.end, spec=clips.spec_of(model)).frames
    except ZooError:
        return False
    return again.shape == clip.frames.shape and torch.equal(again, clip.frames)


def compared_with(said: Mapping[str, Any]) -> str:
    """What the squared error of an output clip is measured from, in words."""
    if not said.get("follows"):
        return "the clip"
    count = said["shape"][1] if len(said["shape"]) == 4 else 1
    return "the frame that follows" if count == 1 else f"the {count} frames that follow"
