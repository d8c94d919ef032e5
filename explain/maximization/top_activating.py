"""The real clips that activate a unit most: what it answers to in the world, beside what it would like best."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from explain.maximization.passes import Passes
from explain.model.diagnosis import diagnosed
from explain.model.layouts import input_of, layout_of, to_display, to_ncthw
from explain.model.memory import Progress, fitting, within_memory
from explain.model.preservation import prepared
from explain.model.targets import unit_index
from explain.progress import following
from explain.results import Saved
from zoo import clips as zoo_clips
from zoo import devices
from zoo.entries import Layout
from zoo.errors import ClipError, UnknownNameError, UsageError
from zoo.names import is_pattern

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Ways to say how active a unit is on a clip.
By = Literal["mean", "max"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TopClip:
    """One clip that activates a unit."""

    #: Its path or name; "0", "1", ... in their order for clips given as tensors.
    source: str
    #: What it shows, where a folder, a list or the clip says so.
    label: str | None
    #: Mean of the unit's map over time, rows and columns, and its highest value.
    mean: float
    highest: float
    #: Time step, row and column of the highest value in the layer's map; the first of several.
    position: tuple[int, int, int]
    #: Frame, row and column of the clip, as the model takes it, over the middle of that position's share of it.
    place: tuple[int, int, int]
    #: T' x H' x W': the unit's map, on the CPU.
    map: Tensor
    #: C x H x W, uint8: the frame of `place`, as it can be looked at, for pictures; None where it is not known.
    picture: Tensor | None = None
    #: Seconds of that frame on the clock of the clip's source; None where they are not known.
    seconds: float | None = None

    @property
    def moment(self) -> str:
        """When the unit is highest: "1.53 s, frame 46", or the frame alone."""
        frame = self.place[0]
        return zoo_clips.instant(frame, None if self.seconds is None else {frame: self.seconds})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TopClips(Saved):
    """For each unit, the clips that activate it most."""

    layer: str
    units: tuple[int, ...]
    #: For each unit: its clips, most active first.
    clips: tuple[tuple[TopClip, ...], ...]
    #: Clips that were looked at.
    count: int
    #: Clips that were left out, each with the reason.
    problems: tuple[tuple[str, str], ...] = ()
    #: Seconds of each clip between which it was looked at; None is its end.
    start: float = 0.0
    end: float | None = None

    def plot(self, units: Sequence[int] | None = None) -> Figure:
        """Draw, for each unit, the frame of every clip that excites it most, and where in it.

        Args:
            units: Which units; None takes the first six.

        Raises:
            UsageError: None was looked for, or not that one.
        """
        return self._plot(units)


def top_clips(
    model: nn.Module,
    layer: str,
    units: int | Sequence[int] | Literal["all"],
    clips: str | os.PathLike[str] | Iterable[Any],
    *,
    count: int = 4,
    by: By = "mean",
    start: float = 0.0,
    end: float | None = None,
    layout: Layout | None = None,
    batch_size: int | None = None,
    progress: Progress | bool | None = None,
) -> TopClips:
    """Find the clips that activate units of a layer most.

    Clips are read one after the other and run in batches as memory allows, up to the layer; only the best are kept.
    Those that cannot be read, or for which a map is not finite, are left out and told in `problems`. The model is left
    as it was found, also on failure.

    Args:
        model: Any module; one that did not come from `zoo.load` takes tensors of floating-point numbers alone.
        layer: Name of a layer, as `explain.model.layers.layer_names` lists it.
        units: One unit (channel) of the layer, several, or "all".
        clips: A folder or list file of clips (as `explain report` takes them; of a folder of images alone each is a
            clip), or any iterable of clips: what
            `zoo.read_clip` takes, a `zoo.clips.Clip`, uint8 frames T x H x W x C, or a batch of one sample of
            floating-point numbers as the model takes it.
        count: Clips to keep for each unit.
        by: Whether a unit's "mean" or its highest activation ("max") says how active it is.
        start: Seconds of each clip at which to begin, for clips that have times.
        end: Seconds at which to stop; None goes to the end.
        layout: Order of the axes of clips given as batches, as in `explain.attribute`.
        batch_size: Clips that run at once; None asks the memory.
        progress: Called as progress(done, total), in clips, where their number is known; True shows a bar.

    Raises:
        UnknownNameError: No such layer, unit, folder or file; near names are offered.
        UsageError: No unit, fewer than one clip to keep or at once, or something that is no clip.
        ClipError: There is no clip, or none that can be read.
        ModelError: The layer does not run or gives no maps.
        MemoryLimitError: Not even one clip fits into memory.
    """
    if count < 1 or (batch_size is not None and batch_size < 1):
        raise UsageError("at least one clip must be kept, and one run at once")
    if by not in {"mean", "max"}:
        raise UnknownNameError("way to rank clips", by, ["mean", "max"])
    if isinstance(units, str) and units != "all":
        raise UsageError(f'units are numbers, or "all", not {units!r}')
    listed = named(clips)
    total = len(listed) if isinstance(listed, list) else None
    problems: list[tuple[str, str]] = []
    with prepared(model), following(progress) as told:
        tell = told("looking at clips")
        search = _Search(model, layer, units, count, by, (start, end), layout, batch_size, problems)
        done = 0
        for done, (source, given) in enumerate(listed, start=1):
            search.look(source, given)
            if tell is not None and total:
                tell(done, total)
        search.flush()
    if not search.looked_at:
        reason = f": {problems[0][0]}: {problems[0][1]}" if problems else ""
        raise ClipError(f"none of {done} clips can be looked at{reason}" if done else "there is no clip to look at")
    return TopClips(
        layer=layer,
        units=tuple(search.best),
        clips=tuple(tuple(best) for best in search.best.values()),
        count=search.looked_at,
        start=start,
        end=end,
        problems=tuple(problems),
    )


class _Search:
    """The clips waiting for a batch, and the best so far."""

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        units: int | Sequence[int] | str,
        count: int,
        by: By,
        part: tuple[float, float | None],
        layout: Layout | None,
        batch_size: int | None,
        problems: list[tuple[str, str]],
    ) -> None:
        self.model = model
        self.layer = layer
        self.units = units
        self.count = count
        self.by = by
        self.start, self.end = part
        self.layout = layout
        self.at_once = batch_size
        self.problems = problems
        self.passes = Passes(model, [layer])
        self.surveyed = False
        self.waiting: list[tuple[str, str | None, Tensor]] = []
        self.best: dict[int, list[TopClip]] = {}
        self.looked_at = 0

    def look(self, source: str, given: Any) -> None:
        """Take one clip; it is run once a batch is full."""
        try:
            label, batch = self._batch(given)
        except (ClipError, UnknownNameError) as error:
            self.problems.append((source, str(error)))
            return
        if not self.surveyed:
            self._survey(batch)
        if self.waiting and self.waiting[0][2].shape != batch.shape:
            self.flush()
        self.waiting.append((source, label, batch))
        if len(self.waiting) >= (self.at_once or 1):
            self.flush()

    def flush(self) -> None:
        """Run what waits."""
        if not self.waiting:
            return
        batch = torch.cat([sample for _, _, sample in self.waiting])
        size = min(self.at_once or 1, len(batch))

        def run(size: int) -> Tensor:
            self.at_once = size
            return torch.cat([self._maps(part) for part in torch.split(batch, size)])

        maps = within_memory(run, size, f"one clip of {tuple(batch.shape[1:])} up to layer {self.layer!r}")
        shown = tuple(to_ncthw(batch, layout_of(self.model, batch, self.layout)).shape[2:])
        means, highest = maps.mean(dim=(2, 3, 4)), maps.flatten(2).amax(dim=2)
        places = maps.flatten(2).argmax(dim=2)
        for row, (source, label, sample) in enumerate(self.waiting):
            times = zoo_clips.times_of(sample)
            if not bool(maps[row].isfinite().all()):
                self.problems.append((source, f"layer {self.layer!r} gives NaN or infinity for it"))
                continue
            self.looked_at += 1
            for place, best in enumerate(self.best.values()):
                value = (means if self.by == "mean" else highest)[row, place]
                if len(best) == self.count and value <= self._rank(best[-1]):
                    continue
                step, line, column = (int(x) for x in torch.unravel_index(places[row, place], maps.shape[2:]))
                position = (step, line, column)
                middle = _middle(position, tuple(maps.shape[2:]), shown)
                best.append(
                    TopClip(
                        source=source,
                        label=label,
                        mean=float(means[row, place]),
                        highest=float(highest[row, place]),
                        position=position,
                        place=middle,
                        map=maps[row, place].clone(),
                        picture=self._picture(batch[row : row + 1], middle[0]),
                        seconds=None if times is None else times[middle[0]],
                    )
                )
                best.sort(key=self._rank, reverse=True)
                del best[self.count :]
        self.waiting = []

    def _picture(self, sample: Tensor, at: int) -> Tensor:
        """C x H x W, uint8: one frame of a batch of one sample."""
        display = to_display(sample, input_of(self.model), layout_of(self.model, sample, self.layout))[0, :, at]
        return (255 * display).round().to(torch.uint8).cpu()

    def _rank(self, clip: TopClip) -> float:
        return clip.mean if self.by == "mean" else clip.highest

    def _survey(self, batch: Tensor) -> None:
        """Ask one clip which units there are, and how many clips run at once."""
        what = f"one clip of {tuple(batch.shape[1:])}"
        finite = bool(batch.isfinite().all())  # else it is left out where its maps are read
        with diagnosed(self.model, batch, self.layout) if finite else contextlib.nullcontext():
            seen, made = within_memory(lambda _: self.passes.survey(batch), 1, what)
        number = seen.maps[self.layer].shape[1]
        asked = range(number) if self.units == "all" else [self.units] if isinstance(self.units, int) else self.units
        self.best = {unit_index(self.layer, unit, number): [] for unit in asked}
        if not self.best:
            raise UsageError("name at least one unit of the layer")
        self.at_once = 1 if made is None else self.at_once or fitting(made, batch.device)
        self.surveyed = True

    @torch.no_grad()
    def _maps(self, batch: Tensor) -> Tensor:
        """N x units asked for x T' x H' x W', in float32 at least, on the CPU."""
        return self.passes.run(batch, batch).maps[self.layer][:, list(self.best)].cpu()

    def _batch(self, given: Any) -> tuple[str | None, Tensor]:
        """Label, if any, and batch of one sample, of what was given as a clip."""
        like = devices.like(self.model)
        if isinstance(given, Tensor) and given.is_floating_point():
            layout_of(self.model, given, self.layout)
            if self.start or self.end is not None:
                raise UsageError("start and end cut clips that have times, a batch has none")
            if len(given) != 1:
                raise UsageError(f"a clip is a batch of one sample, this one holds {len(given)}")
            return None, given.to(like)
        spec = zoo_clips.spec_of(self.model)
        if isinstance(given, Tensor):
            return None, zoo_clips.preprocess(given, self.model, start=self.start, end=self.end)
        if isinstance(given, zoo_clips.Clip):
            return given.label, zoo_clips.preprocess(given, self.model, start=self.start, end=self.end)
        path = getattr(given, "path", given)
        if not isinstance(path, str | os.PathLike):
            raise UsageError(f"expected a clip's path, frames or batch, got {type(given).__name__}")
        clip = zoo_clips.decode(os.fspath(path), start=self.start, end=self.end, spec=spec)
        return getattr(given, "label", None) or clip.label, zoo_clips.preprocess(clip, self.model)


def named(clips: Any) -> list[tuple[str, Any]] | Iterator[tuple[str, Any]]:
    """Clips with their names, as `top_clips` takes them; a list where their number is known.

    Raises:
        UnknownNameError: No such folder, file or sample.
        UsageError: Something that is no clips, or a list with a line that names none.
        ClipError: A folder or list without a clip.
    """
    if isinstance(clips, str | os.PathLike):
        from explain.sources import find

        given = os.fspath(clips)
        if not (given.startswith("sample:") and is_pattern(given)):
            zoo_clips.check_exists(given)
        # Of images alone, each is a clip here: a folder is asked which of its clips are best.
        found = find(given) or (find(given, each=True) if Path(given).expanduser().is_dir() else None)
        return [(given, given)] if found is None else [(source.path, source) for source in found]
    if isinstance(clips, Tensor) or not isinstance(clips, Iterable):
        raise UsageError("clips are a folder, a list file, or several clips in a list")
    pairs = ((_name(clip, place), clip) for place, clip in enumerate(clips))
    return list(pairs) if isinstance(clips, list | tuple) else pairs


def _name(clip: Any, place: int) -> str:
    if isinstance(clip, zoo_clips.Clip):
        return clip.source
    return str(clip) if isinstance(clip, str | Path) else str(place)


def _middle(position: tuple[int, int, int], size: tuple[int, ...], shown: tuple[int, ...]) -> tuple[int, int, int]:
    """The pixel of the clip over the middle of a position's share of it."""
    time, row, column = (int((at + 0.5) * full / cells) for at, cells, full in zip(position, size, shown, strict=True))
    return time, row, column
