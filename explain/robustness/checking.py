"""Robustness checks: outputs of a model on clips perturbed at increasing levels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from explain.model.diagnosis import diagnosed, is_whole, not_finite
from explain.model.layouts import computed_in
from explain.model.memory import MeasuredBytes, fitting, within_memory
from explain.model.preservation import prepared
from explain.model.targets import Target, TargetLike
from explain.progress import Followed, following
from explain.robustness.measures import Measures
from explain.robustness.perturbations import Extent, Perturbation, check_counts, check_fill, find, listed
from explain.robustness.perturbed_clips import Spoiled
from explain.robustness.results import Curve, Measure, Robustness
from zoo.entries import Layout
from zoo.errors import ModelError, UsageError
from zoo.models.heads import by_head

#: Perturbation, level, index of the draw, sample.
_Wanted = tuple["Perturbation", float, int, int]


def check_robustness(
    model: nn.Module,
    batch: Tensor,
    *,
    perturbations: str | Sequence[str] | Mapping[str, Sequence[float]] | None = None,
    levels: int = 8,
    draws: int = 4,
    fill: str | float = "grey",
    layout: Layout | None = None,
    target: TargetLike | Target = None,
    truth: Mapping[str, Tensor] | Tensor | None = None,
    measure: Callable[[Any, Tensor], Tensor] | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Followed = None,
) -> Robustness:
    """Measure how noise, missing pixels, and missing, repeated or shuffled frames change a model's output.

    Perturbations act on display values in [0, 1] before normalization, by the model's input specification (without one,
    each sample is stretched to [0, 1]), and are clipped to that range. Each level of each sample has its own random
    numbers, so that results depend on neither device nor batch; missing parts grow from level to level.

    =================  =========================================  ============================================
    perturbation       level                                      what it does
    =================  =========================================  ============================================
    gaussian_noise     standard deviation s                       x + s n, n of a standard normal distribution
    poisson_noise      s, deviation on white: 1 / s^2 photons     Poisson(x / s^2) s^2
    salt_and_pepper    share of pixels                            half of these black, half white
    blur               standard deviation in pixels               Gaussian blur of each frame
    missing_square     side in pixels                             a square, the same in all frames, is `fill`
    missing_frames     number of frames                           they are `fill`
    dropped_frames     number of frames, never the first          each repeats the one before it
    lower_frame_rate   k                                          of k frames the first is shown k times
    shuffled_frames    share of frames                            they change places, none keeps its own
    =================  =========================================  ============================================

    The measures are, for classification heads: whether the predicted class is that of the unchanged clip and, if the
    truth is known, the true class; softmax probability and logit of one class (the target's, else the true, else the
    predicted one); for values: the distance from the unchanged clip's and from the truth; for clips: the mean squared
    error per pixel against the truth, else against the output for the unchanged clip, beside the error of a clip of
    zeros.

    The model runs in eval mode and its state is restored, also on failure.

    Args:
        model: Any module.
        batch: N preprocessed samples.
        perturbations: Names, or names with the levels of each (None: `levels` of them); None uses all that apply.
        levels: Number of levels, where not listed.
        draws: Number of random draws for each sample and level.
        fill: Value of missing parts: "black", "grey", "white", "mean" (the clip's mean color), or a number in [0, 1].
        layout: Order of the batch's axes, as in `explain.attribute`.
        target: The target, as in `explain.attribute`, or a `Target` that `explain.attribute` returned. None measures
            every head.
        truth: Ground truth by head: N classes, N values, or clips like the output. For a single head, its tensor.
        measure: Replaces these measures: `measure(output, samples)` returns M numbers for the model's output on M
            perturbed samples; `samples` (M integers) are their indices in the batch.
        batch_size: Maximum number of samples per pass; None fits it to the free memory.
        seed: Random seed.
        progress: Called as progress(done, total), in passes of one sample; True shows a bar on stderr.

    Raises:
        UnknownNameError: Unknown perturbation, fill or target.
        UsageError: An invalid count, level or truth.
        ModelError: The model does not accept the batch, or its output is not finite.
        MemoryLimitError: Not even one sample fits into memory.
    """
    check = Check(
        model,
        perturbations=perturbations,
        levels=levels,
        draws=draws,
        fill=fill,
        layout=layout,
        target=target,
        measure=measure,
        batch_size=batch_size,
        seed=seed,
    )
    with following(progress) as told:
        check.add(batch, truth, told("robustness"))
    return check.result()


class Check:
    """`check_robustness` for batches that arrive one after the other: `add` each, then read the `result`."""

    def __init__(
        self,
        model: nn.Module,
        *,
        perturbations: str | Sequence[str] | Mapping[str, Sequence[float]] | None = None,
        levels: int = 8,
        draws: int = 4,
        fill: str | float = "grey",
        layout: Layout | None = None,
        target: TargetLike | Target = None,
        measure: Callable[[Any, Tensor], Tensor] | None = None,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        check_counts(levels=levels, draws=draws, batch_size=1 if batch_size is None else batch_size)
        if not is_whole(seed):
            raise UsageError(f"seed must be a whole number, got {seed!r}")
        if measure is not None and not callable(measure):
            raise UsageError(
                f"measure must be a function of the model's output and the samples' numbers, got {measure!r}"
            )
        check_fill(fill)
        self.model, self.layout, self.target, self.measure = model, layout, target, measure
        self.perturbations = find(perturbations)
        self.asked = listed(perturbations) if isinstance(perturbations, Mapping) else {}
        self.levels, self.draws, self.fill, self.seed = levels, draws, fill, seed
        self.size, self.extent = batch_size, (0, 0, 0)
        self.samples = 0
        self.precision = ""
        self.grids: dict[str, tuple[float, ...]] = {}
        self.missing: dict[str, str] = {}
        self.measures: list[Measure] = []
        self.values: dict[str, list[Tensor]] = {}

    def add(
        self,
        batch: Tensor,
        truth: Mapping[str, Tensor] | Tensor | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Perturb further samples. Raises as `check_robustness` does, and for samples unlike the earlier ones."""
        with diagnosed(self.model, batch, self.layout), prepared(self.model, seed=self.seed), torch.no_grad():
            self.precision = computed_in(self.model, batch.device)
            spoiled = Spoiled(self.model, batch, fill=self.fill, seed=self.seed, first=self.samples)
            self._lay_out(spoiled.extent)
            measures = Measures(
                self.model,
                spoiled.batch,
                self._heads(spoiled.batch),
                target=self.target,
                truth=truth,
                measure=self.measure,
            )
            if self.measures and [one.name for one in self.measures] != [one.name for one in measures.specs]:
                raise UsageError("the truth of all samples, or of none, must be known for the same outputs")
            self.measures = [
                dataclasses.replace(new, lines=_joined(old.lines, self.samples, new.lines, len(batch)))
                for old, new in zip(self.measures or measures.specs, measures.specs, strict=True)
            ]
            values = self._run(spoiled, measures, progress or (lambda *_: None))
            for name, one in values.items():
                self.values.setdefault(name, []).append(one)
            self.samples += len(batch)

    def result(self) -> Robustness:
        """Return the curves over all samples so far."""
        found = {one.name: one for one in self.perturbations}
        measures = {one.name: one for one in self.measures}
        curves = {}
        for name, parts in self.values.items():
            values = torch.cat(parts, dim=3)
            single = {measure: values[at] for at, measure in enumerate(measures)}
            curves[name] = Curve(
                perturbation=name,
                title=found[name].title,
                level=found[name].level,
                levels=torch.tensor([found[name].none, *self.grids[name]], dtype=torch.float64),
                mean={measure: one.mean(dim=(1, 2)) for measure, one in single.items()},
                error={measure: standard_error(one) for measure, one in single.items()},
                values=single,
            )
        settings = {"draws": self.draws, "fill": self.fill, "seed": self.seed, "extent": list(self.extent)}
        if self.precision:
            settings["precision"] = self.precision
        return Robustness(
            measures=measures, curves=curves, samples=self.samples, missing=dict(self.missing), settings=settings
        )

    def _planned(self) -> list[tuple[Perturbation, tuple[float, ...]]]:
        return [(one, self.grids[one.name]) for one in self.perturbations if one.name in self.grids]

    def _draws(self, perturbation: Perturbation) -> int:
        return self.draws if perturbation.drawn else 1

    def _lay_out(self, extent: Extent) -> None:
        """Choose the levels, once."""
        if self.samples and extent != self.extent:
            raise UsageError(f"clips of one check have one extent; {self.extent} was followed by {extent} (T, H, W)")
        if self.samples:
            return
        self.extent = extent
        for one in self.perturbations:
            possible = one.levels(self.levels, extent)
            if not possible:
                self.missing[one.name] = "there is one frame only"
            elif self.asked.get(one.name):
                self.grids[one.name] = one.checked(self.asked[one.name], extent)
            else:
                self.grids[one.name] = possible
        if not self.grids:
            raise UsageError(
                f"{', '.join(self.missing)} cannot be done to a clip of one frame; name another perturbation"
            )

    def _heads(self, batch: Tensor) -> dict[str, Tensor]:
        """Return the outputs for the unchanged samples; the first pass measures how many fit into memory."""

        def forward(some: Tensor, size: int) -> list[dict[str, Tensor]]:
            return [by_head(self.model, self.model(part.clone())) for part in torch.split(some, size)]

        what = f"one sample of {tuple(batch.shape[1:])}"
        with MeasuredBytes() as measured:
            parts = within_memory(lambda size: forward(batch[:1], size), 1, what)
        self.size = self.size or fitting(measured.total, batch.device)
        if len(batch) > 1:
            parts = parts + within_memory(lambda size: forward(batch[1:], size), self.size, what)
        heads = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        for name, head in heads.items():
            if not bool(torch.isfinite(head).all()):
                raise ModelError(f"{name} is not a finite number: {not_finite(self.model, batch)}")
        return heads

    def _run(self, spoiled: Spoiled, measures: Measures, progress: Callable[[int, int], None]) -> dict[str, Tensor]:
        """Return by perturbation: measures x levels x draws x N."""
        samples = range(len(spoiled.batch))
        clean: list[_Wanted] = [(self.perturbations[0], self.perturbations[0].none, 0, sample) for sample in samples]
        wanted = [
            (one, level, draw, sample)
            for one, grid in self._planned()
            for level in grid
            for draw in range(self._draws(one))
            for sample in samples
        ]
        found = self._evaluate(spoiled, measures, clean + wanted, progress)
        unchanged, rest = found[:, None, None, : len(samples)], found[:, len(samples) :]
        values, start = {}, 0
        for one, grid in self._planned():
            draws = self._draws(one)
            shape = (len(measures.specs), len(grid), draws, len(samples))
            part = rest[:, start : start + len(grid) * draws * len(samples)].reshape(shape)
            start += len(grid) * draws * len(samples)
            values[one.name] = torch.cat([unchanged.expand(-1, 1, draws, -1), part], dim=1)
        return values

    def _evaluate(
        self, spoiled: Spoiled, measures: Measures, wanted: Sequence[_Wanted], progress: Callable[[int, int], None]
    ) -> Tensor:
        """Return measures x wanted."""
        batch = spoiled.batch
        found: list[Tensor] = []

        def run(size: int) -> Tensor:
            done = sum(part.shape[1] for part in found)  # results computed before memory ran out are kept
            for start in range(done, len(wanted), size):
                some = wanted[start : start + size]
                clips = torch.cat(
                    [
                        batch[sample : sample + 1] if level <= one.none else spoiled.sample(sample, one, level, draw)
                        for one, level, draw, sample in some
                    ]
                )
                of = torch.tensor([sample for *_, sample in some], device=batch.device)
                values = measures.read(clips, of).cpu()
                _check_finite(values, some)
                found.append(values)
                progress(min(start + size, len(wanted)), len(wanted))
            return torch.cat(found, dim=1)

        return within_memory(run, self.size or 1, f"one sample of {tuple(batch.shape[1:])}")


def standard_error(values: Tensor) -> Tensor:
    """Return standard errors of means of (L + 1) x draws x N: over samples, over draws for one sample, else NaN."""
    single = values.mean(dim=1) if values.shape[2] > 1 else values[:, :, 0]
    count = single.shape[1]
    if count == 1:
        return torch.full_like(single[:, 0], torch.nan)
    error: Tensor = single.std(dim=1, correction=1) / math.sqrt(count)
    return error


def _joined(old: Mapping[str, float], before: int, new: Mapping[str, float], more: int) -> dict[str, float]:
    """Merge the lines of several batches: means over all samples."""
    return {name: (old[name] * before + value * more) / (before + more) for name, value in new.items()}


def _check_finite(values: Tensor, wanted: Sequence[_Wanted]) -> None:
    broken = (~torch.isfinite(values)).any(dim=0).nonzero().flatten().tolist()
    if broken:
        one, level, _, sample = wanted[broken[0]]
        raise ModelError(
            f"under {one.name} at level {level:g}, what is measured of sample {sample} is not a finite number"
        )
