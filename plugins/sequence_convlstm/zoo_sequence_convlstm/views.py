"""Sections of a report: multi-step predictions of the network, and activity of its gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from explain.authoring import (
    Content,
    Context,
    Sprite,
    clip_sprite,
    colours,
    figures,
    following,
    numbers,
    painted,
    render,
)
from zoo import clips
from zoo.models.prediction import to_frames
from zoo_sequence_convlstm.convlstm import GATES, PeepholeConvLSTM
from zoo_sequence_convlstm.evaluation import copied, roll_out

if TYPE_CHECKING:
    from markupsafe import Markup

_HERE = "zoo_sequence_convlstm"
#: Maximum number of predicted frames, and their number if the clip does not continue.
_MOST, _BLIND = 14, 6
#: References of predictions: copies, and a uniform frame of the last one's mean.
_AGAIN, _EVEN = "the last frame again", "an even grey"
#: Descriptions of the gates.
_TITLES = {
    "input": "Input gate: how much of the candidate is written",
    "forget": "Forget gate: how much of the memory is kept",
    "candidate": "Candidate: what would be written",
    "output": "Output gate: how much of the memory is given out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Frames under one name."""

    title: str
    picture: Sprite
    #: Over the pictures; None if nothing is.
    overlay: Sprite | None = None


def next_frames(context: Context) -> Content:
    """Build the section of the following frames, true and predicted from the network's own, with errors by horizon."""
    truth = _following(context)
    with torch.no_grad():
        found = roll_out(context.model, context.batch, _BLIND if truth is None else truth.shape[2])
    rows = [Row(title="As the network predicts it", picture=_picture("predicted", found, context))]
    errors: dict[str, list[float]] = {}
    scale = None
    drawn: Markup | str = ""
    said = ""
    if truth is not None:
        changes = (found.cpu() - truth)[0].float().mean(dim=0).numpy()
        _, scale, _ = colours.scaled(changes)
        over = painted("next-difference", changes, scale)
        rows.insert(0, Row(title="How the clip goes on", picture=_picture("true", truth, context)))
        rows.append(Row(title="Predicted less true, over the true frames", picture=rows[0].picture, overlay=over))
        again = copied(context.batch).cpu().expand_as(truth)
        errors = {
            "the network": _errors(found.cpu(), truth),
            _AGAIN: _errors(again, truth),
            _EVEN: _errors(again.mean(dim=(-2, -1), keepdim=True).expand_as(truth), truth),
        }
        drawn, said = _by_horizon(errors), _in_words(errors)
    data = {"frames": found.shape[2], "squared_error": errors, "scale": scale}
    html = render(
        "next_frames.html",
        _HERE,
        rows=rows,
        drawn=drawn,
        said=said,
        colours=colours.signed(),
        shown=_columns(errors),
        **data,
    )
    sprites = [one for row in rows for one in (row.picture, row.overlay) if one is not None]
    return Content(
        html=html,
        data=data,
        tensors={"predicted": found.cpu(), **({} if truth is None else {"true": truth})},
        sprites=tuple({sprite.name: sprite for sprite in sprites}.values()),
    )


def gates(context: Context) -> Content:
    """Build the section of one unit's gates at the last frame of each window of the clip, maps and means."""
    cells = {name: part for name, part in context.model.named_modules() if isinstance(part, PeepholeConvLSTM)}
    clip, read, times = context.batch, context.batch.shape[2], context.times
    truth = _following(context)
    if truth is not None:
        clip = torch.cat((clip, truth.to(clip)), dim=2)
        after = clips.times_of(truth)
        times = None if times is None or after is None else times + after
    windows = clip[0].unfold(1, read, 1).permute(1, 0, 4, 2, 3)  # a cell that reads on and on goes astray
    name, unit = _unit(context, cells, windows)
    entered: list[Tensor] = []
    with cells[name].register_forward_pre_hook(lambda _, given: entered.append(given[0].detach())), torch.no_grad():
        context.model(windows)
    maps = {gate: of[:, unit, -1].float().cpu() for gate, of in cells[name].gates(entered[0]).items()}
    highest = float(maps["candidate"].abs().max()) or 1.0
    rows, last = [], times and times[read - 1 :]
    for gate, of in maps.items():
        shown = of.abs() / highest if gate == "candidate" else of
        frames = (255 * shown.clamp(0, 1)).round().to(torch.uint8)[..., None].numpy()
        rows.append(Row(title=_TITLES[gate], picture=clip_sprite(f"gate-{gate}", frames, times=last)))
    means = {gate: of.mean(dim=(1, 2)).tolist() for gate, of in maps.items()}
    data = {
        "layer": name,
        "unit": unit,
        "means": means,
        "times": last and list(last),
        "brightest_candidate": highest,
        "read": read,
    }
    html = render(
        "gates.html",
        _HERE,
        rows=rows,
        drawn=_over_time(means, times, read - 1),
        asked=context.target.unit == (name, unit),
        several=len(windows) > 1,
        shown={gate: numbers.numbers(values) for gate, values in means.items()},
        **data,
    )
    return Content(html=html, data=data, tensors=maps, sprites=tuple(row.picture for row in rows))


def _following(context: Context) -> Tensor | None:
    """Return the frames of the clip that follow the batch, 1 x C x T x H x W on the CPU, or None."""
    spec = clips.spec_of(context.model)
    count = min(_MOST, context.clip.total - spec.frames)
    return following(context.model, context.clip, count) if count > 0 else None


def _unit(context: Context, cells: dict[str, PeepholeConvLSTM], windows: Tensor) -> tuple[str, int]:
    """Return the target's unit if it is one of a cell, else the unit of the last cell whose state varies most."""
    asked = context.target.unit
    if asked is not None and asked[0] in cells:
        return asked
    name = list(cells)[-1]
    states: list[Tensor] = []
    with cells[name].register_forward_hook(lambda *given: states.append(given[-1].detach())), torch.no_grad():
        context.model(windows)
    return name, int(states[0].transpose(0, 1).flatten(1).std(dim=1).argmax())


def _picture(name: str, frames: Tensor, context: Context) -> Sprite:
    return clip_sprite(f"next-{name}", to_frames(frames[0].cpu(), clips.spec_of(context.model)).numpy())


def _errors(found: Tensor, truth: Tensor) -> list[float]:
    """Compute the squared error of each frame."""
    errors: list[float] = (found.double() - truth.double()).square().mean(dim=(0, 1, 3, 4)).tolist()
    return errors


def _columns(errors: dict[str, list[float]]) -> dict[str, list[Markup | None]]:
    """Format all errors with the same number of decimals."""
    texts = iter(numbers.numbers([value for values in errors.values() for value in values]))
    return {name: [next(texts) for _ in values] for name, values in errors.items()}


def _in_words(errors: dict[str, list[float]]) -> str:
    """Return how far ahead the network is better than the references."""
    own, *others = errors.values()
    said = []
    for what, values in zip((_AGAIN, f"{_EVEN} of that frame's mean"), others, strict=True):
        better = next((at for at, (one, other) in enumerate(zip(own, values, strict=True)) if one >= other), len(own))
        ahead = "one frame" if better == 1 else f"{better} frames"
        said.append(f"better than {what} up to {ahead} ahead" if better else f"no better than {what}")
    return f"The network is {' and '.join(said)}."


def _by_horizon(errors: dict[str, list[float]]) -> Markup:
    with figures.style():
        drawn = figures.figure(400, 200)
        axes = drawn.add_subplot()
        for place, (name, values) in enumerate(errors.items()):
            shade, (marker, line) = figures.series(place)
            steps = range(1, len(values) + 1)
            axes.plot(steps, values, color=shade, marker=marker, linestyle=line, markersize=4, label=name)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("frames after the last one read")
        axes.set_ylabel("mean squared error")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figures.legend(drawn, axes)
        return figures.svg(drawn, "next-errors", "Squared error of each predicted frame; the numbers stand below")


def _over_time(means: dict[str, list[float]], times: Sequence[float] | None, first: int) -> Markup:
    with figures.style():
        drawn = figures.figure(400, 320)
        panels: Any = drawn.subplots(2, 1)
        for place, gate in enumerate(GATES):
            axes = panels[1 if gate == "candidate" else 0]
            shade, (marker, line) = figures.series(place)
            frames = range(first, first + len(means[gate]))
            axes.plot(frames, means[gate], color=shade, marker=marker, linestyle=line, markersize=4, label=gate)
        for axes, title in zip(panels, ("gates", "candidate"), strict=True):
            axes.set_ylabel(f"mean of the {title}")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0].set_ylim(0, 1)
        figures.over_frames(panels[1], times)
        figures.legend(drawn, panels[0])
        return figures.svg(drawn, "gates", "Means of the gates over time; the numbers stand below")
