"""Faithfulness tests of maps; passes that do not depend on the map are shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from explain.attribution.methods import Method, find_method
from explain.attribution.results import Attribution
from explain.faithfulness.curves import Control, kinds_of
from explain.faithfulness.measures import BUILT_IN, Test, all_tests
from explain.faithfulness.randomization import chosen_depths, randomized, rank_correlation, weight_layers
from explain.faithfulness.removal import Boxes, Subject
from explain.faithfulness.repetition import Again, Effort, Trial, check_kept
from explain.faithfulness.results import Curves, Faithfulness, Randomized
from explain.faithfulness.verdicts import UNTRAINED, judge
from explain.model.diagnosis import diagnosing
from explain.model.layouts import computed_in, has_random_weights, layout_of, to_ncthw
from explain.model.memory import Progress
from explain.model.preservation import prepared
from explain.model.targets import Target
from explain.progress import telling
from zoo.devices import is_out_of_memory
from zoo.entries import Layout
from zoo.errors import ModelError, PluginError, PluginExitError, UnknownNameError, UsageError, ZooError, describe
from zoo.isolation import guarded
from zoo.registry.plugins import resolve

#: Random orders for kinds of curves that do not enter the verdict.
ILLUSTRATING = 4


def check_faithfulness(
    model: nn.Module,
    batch: Tensor,
    attribution: Attribution,
    *,
    layout: Layout | None = None,
    baseline: Tensor | float | str | None = None,
    steps: int = 64,
    seed: int = 0,
    draws: int = 20,
    depths: int | None = None,
    fill: str = "surroundings",
    method: Method | None = None,
    batch_size: int | None = None,
    progress: Callable[[str, int, int], None] | bool | None = None,
) -> Faithfulness:
    """Test how faithful a map is to the model, without ground truth.

    - *Deletion and insertion* (Petsiuk et al., RISE, arXiv 1806.07421, section 4.1): parts of the clip are removed, and
      restored, in the map's order: pixels in all frames, whole frames, and pixels of single frames, compared with
      random orders and a center-first order. Removed pixels are filled from the rest of their frame, and wholly removed
      frames from the baseline (`explain.faithfulness.removal`). The areas are shares of the unchanged output, with
      changes measured relative to the change from removing the whole clip (`explain.faithfulness.curves`); logits,
      values and the means of regions are treated alike. A region of an output clip that is dark with and without the
      clip has no such measure, and the verdict reports it. Unsigned maps mark both what brightens and what darkens a
      region, and only removing the former lowers its mean.
    - *Infidelity* (arXiv 1901.09392): the map's sum over random boxes against the output's change when they are
      removed.
    - *Max-sensitivity* (the same): how much the map changes under noise of 2% of the sample's range.
    - *Randomization* (arXiv 1810.03292): the map of models whose last layers have random weights, against the original.
      For a region, or a unit at one position, pixels where both maps are 0 are excluded.

    The verdict uses all of these but infidelity (`explain.faithfulness.verdicts`). A model that `zoo.load` initialized
    randomly gets no verdict.

    The model runs in eval mode and its state is restored, also on failure; its parameters are never written to.

    Args:
        model: The model that was explained.
        batch: The batch that was explained.
        attribution: The result of `explain.attribute`.
        layout: Order of the batch's axes; None uses that of the attribution.
        baseline: The baseline, as in `explain.attribute`; None uses the attribution's own, else zeros.
        steps: Points of each curve, at most as many as there are parts to remove.
        draws: Random orders, in pairs of an order and its reverse. With 20 or more, bounds are order statistics; with
            fewer, they use Student's t distribution, and more maps are inconclusive.
        depths: Number of depths of randomization: 1 is the last layer alone, which is drawn eight times; None is every
            layer.
        fill: What replaces removed parts in deletion and insertion: "surroundings", or "baseline" as in the paper,
            whose blocks of one color disrupt many networks wherever they are (docs/methods.md has figures).
        method: The method that computed the map, if no plugin registers it.
        batch_size: Maximum number of evaluations per pass; None fits it to the free memory.
        seed: Random seed; maps of random methods are recomputed with their own seed.
        progress: Called as progress(step, done, total); True shows bars.

    Raises:
        UnknownNameError: Unknown fill.
        UsageError: The map does not belong to the batch, or a count is invalid.
        ModelError: The output cannot be computed.
        MemoryLimitError: Not even one sample fits into memory.
    """
    effort = Effort(steps=steps, draws=draws, depths=depths, fill=fill)
    explained = getattr(attribution, "layout", None)
    if layout is not None and explained not in {None, layout}:
        raise UsageError(f"the map was made of a batch {explained}, not {layout}; leave layout out")
    methods = {} if method is None else {method.name: method}
    return check_all(
        model,
        batch,
        [attribution],
        effort,
        layout=layout or explained,
        baseline=baseline,
        methods=methods,
        batch_size=batch_size,
        seed=seed,
        progress=progress,
    )[0]


@diagnosing
def check_all(
    model: nn.Module,
    batch: Tensor,
    attributions: Sequence[Attribution],
    effort: Effort,
    *,
    layout: Layout | None = None,
    baseline: Tensor | float | str | None = None,
    methods: Mapping[str, Method] | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | bool | None = None,
) -> list[Faithfulness]:
    """Run `check_faithfulness` for several maps of one batch, sharing what they have in common.

    Args:
        model: The model that was explained.
        batch: The batch that was explained.
        attributions: The results of `explain.attribute`.
        effort: The computation spent on each.
        layout: Order of the batch's axes, as in `explain.attribute`.
        baseline: As in `check_faithfulness`.
        methods: Methods that no plugin registers, by name.
        batch_size: As in `check_faithfulness`.
        seed: As in `check_faithfulness`.
        progress: As in `check_faithfulness`.
    """
    clips = to_ncthw(batch, layout_of(model, batch, layout))
    wanted = (clips.shape[0], *clips.shape[2:])
    for one in attributions:
        if not isinstance(one, Attribution):
            raise UsageError(f"maps are checked as `explain.attribute` gives them, not {one!r:.80}")
        if tuple(one.map.shape) != wanted:
            raise UsageError(
                f"the map of {one.method} is {tuple(one.map.shape)} and this batch {wanted} (N x T x H x W); give the "
                "batch that was explained"
            )
    with prepared(model, seed=seed), telling(progress) as tell:
        checks = _Checks(model, batch.detach(), effort, batch_size, seed, tell)
        known = methods or {}
        return [checks.check(one, known.get(one.method) or _registered(one.method), baseline) for one in attributions]


def _measured(test: Test, trial: Trial) -> Tensor:
    """Run one measure; return N numbers on the CPU, 64-bit.

    Raises:
        PluginError: A plugin's measure fails, or returns anything else.
    """
    if test in BUILT_IN:
        return cast("Tensor", resolve(test.run)(trial)).double().cpu()
    try:
        with guarded():
            values = resolve(test.run)(trial)
            if not isinstance(values, torch.Tensor) or values.shape != trial.subject.value.shape:
                shape = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
                raise TypeError(f"expected one number for each of {len(trial.subject.value)} samples, got {shape}")
            return values.detach().double().cpu()
    except Exception as error:
        if (isinstance(error, ZooError) and not isinstance(error, PluginExitError)) or is_out_of_memory(error):
            raise
        raise PluginError(f"the measure {test.name} ({test.run}) does not work: {describe(error)}") from error


def _registered(name: str) -> Method | None:
    try:
        return find_method(name)
    except UnknownNameError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ground:
    """Computations shared by the maps of one target and baseline."""

    target: Target
    baseline: Tensor | float | str | None
    subject: Subject
    controls: list[Control]
    #: Values that measures share between the maps.
    kept: dict[str, Any] = field(default_factory=dict)


class _Checks:
    """Tests of several maps of one model and batch."""

    def __init__(
        self,
        model: nn.Module,
        batch: Tensor,
        effort: Effort,
        batch_size: int | None,
        seed: int,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.model, self.batch, self.effort = model, batch, effort
        self.batch_size, self.seed, self.progress = batch_size, seed, progress
        self.precision = computed_in(model, batch.device)
        self.untrained = has_random_weights(model)
        self.grounds: list[_Ground] = []
        self.layers: dict[int, dict[str, tuple[str, ...]]] = {}
        self.tests = all_tests()

    def check(
        self, attribution: Attribution, method: Method | None, baseline: Tensor | float | str | None
    ) -> Faithfulness:
        """Run every test on one map."""
        own = attribution.settings.get("baseline")
        if baseline is None:
            check_kept(attribution.method, own)
        if isinstance(own, list):  # with several baselines, the first replaces removed parts
            own = own[0]
        against = own if baseline is None else baseline
        ground = self._ground(attribution.target, against)
        subject, name = ground.subject, attribution.method
        missing = {} if subject.extent[0] > 1 else dict.fromkeys(("temporal", "both"), "there is one frame only")
        curves: dict[str, Curves] = {}
        if bool((subject.value == subject.empty).all()):
            missing["deletion"] = "replacing everything by the baseline does not change the output"
        else:
            points = sum(2 * (len(control.counts) - 2) for control in ground.controls)
            self._tell(subject, f"{name}: deletion and insertion", points * len(self.batch))
            curves = {control.kind: control.curves(attribution.map) for control in ground.controls}
        layers: dict[str, tuple[str, ...]] = {}
        try:
            layers = self._layers(attribution.target, subject)
        except ModelError as error:
            missing["randomization"] = str(error)
        depths = chosen_depths(len(layers), self.effort.depths) if layers else []
        trial, measures = self._trial(attribution, method, baseline, ground, depths), {}
        for test in self.tests:
            try:
                measures[test.name] = _measured(test, trial)
            except (ModelError, PluginError) as error:
                missing[test.name] = str(error)
        randomization: tuple[Randomized, ...] = ()
        try:
            randomization = self._randomized(trial, layers, depths)
        except (ModelError, PluginError) as error:
            missing["randomization"] = str(error)
        verdict = UNTRAINED
        if not self.untrained:
            verdict = judge(curves, randomization, missing, measures, subject.extent[0], self.tests)
        return Faithfulness(
            method=name,
            target=str(attribution.target),
            value=subject.value.cpu(),
            empty=subject.empty.cpu(),
            curves=curves,
            measures=measures,
            randomization=randomization,
            verdict=verdict,
            missing=missing,
            settings={
                "baseline": f"tensor {tuple(against.shape)}" if isinstance(against, torch.Tensor) else against,
                "fill": self.effort.fill,
                "steps": self.effort.steps,
                "draws": len(ground.controls[-1].random_deletion),
                "boxes": self.effort.boxes,
                "neighbours": self.effort.neighbours,
                "redraws": self.effort.redraws,
                "layers": len(layers) if randomization else None,
                "remade": dict(self.effort.settings),
                "seed": self.seed,
                **({"precision": self.precision} if self.precision else {}),
            },
        )

    def _ground(self, target: Target, baseline: Tensor | float | str | None) -> _Ground:
        for ground in self.grounds:
            same = ground.baseline is baseline or (
                not isinstance(baseline, torch.Tensor)
                and not isinstance(ground.baseline, torch.Tensor)
                and ground.baseline == baseline
            )
            if same and ground.target is target:
                return ground
        effort = self.effort
        subject = Subject(self.model, self.batch, target, baseline, self.batch_size)
        kinds = kinds_of(subject.extent)[0 if effort.every_kind else -2 :]
        # Verdicts use the last kind and frames; random orders of the other kind are drawn for the figure only.
        draws = {
            kind: effort.draws if kind in {kinds[-1], "temporal"} else min(effort.draws, ILLUSTRATING) for kind in kinds
        }
        passes = sum(
            (2 * ((draws[kind] + 1) // 2) + 2)
            * ((min(effort.steps, subject.extent[0]) if kind == "temporal" else effort.steps) - 1)
            for kind in kinds
        )
        self._tell(subject, "controls", len(self.batch) * (effort.boxes + passes))
        ground = _Ground(
            target=target,
            baseline=baseline,
            subject=subject,
            controls=[
                Control(subject, kind, effort.steps, draws[kind], self.seed, filled=effort.fill != "baseline")
                for kind in kinds
            ],
        )
        ground.kept["boxes"] = Boxes(subject, effort.boxes, self.seed)
        self.grounds.append(ground)
        return ground

    def _trial(
        self,
        attribution: Attribution,
        method: Method | None,
        baseline: Tensor | float | str | None,
        ground: _Ground,
        depths: Sequence[int],
    ) -> Trial:
        """Prepare the inputs of measures; recomputed maps share one progress."""
        again: Again | ModelError
        total = len(self.batch)
        if method is None:
            again = ModelError(f"no method {attribution.method!r} is registered that could make the map again")
        else:
            again = Again(
                self.model,
                attribution,
                method,
                baseline=baseline,
                settings=self.effort.settings,
                batch_size=self.batch_size,
                seed=self.seed,
            )
            total += len(depths) + (self.effort.redraws - 1) * bool(depths) + (not again.as_made)
        done = 0
        step = f"{attribution.method}: maps of noisy clips and of randomised models"

        def told() -> Progress:
            nonlocal done
            before, done = min(done, total - 1), done + 1
            return lambda part, whole: self.progress(step, 1000 * before + 1000 * part // max(whole, 1), 1000 * total)

        return Trial(
            attribution=attribution,
            method=method,
            subject=ground.subject,
            effort=self.effort,
            seed=self.seed,
            again=again,
            told=told,
            kept=ground.kept,
        )

    def _randomized(
        self, trial: Trial, layers: Mapping[str, tuple[str, ...]], depths: Sequence[int]
    ) -> tuple[Randomized, ...]:
        """Randomize the model's layers, depth after depth, and compare the maps."""
        if not depths:
            return ()
        known, target = trial.known, trial.attribution.target
        samples = torch.arange(len(self.batch), device=self.batch.device)
        found = []
        part = target.region is not None or target.positions is not None
        for depth in depths:
            changed = [name for names in list(layers.values())[:depth] for name in names]
            draws = []
            for draw in range(self.effort.redraws if depth == 1 else 1):
                with randomized(self.model, changed, self.seed, draw):
                    other = trial.recompute(self.batch, samples)
                draws.append(rank_correlation(known, other, seen=part).cpu())
            each = torch.stack(draws)
            found.append(
                Randomized(layer=list(layers)[depth - 1], depth=depth, correlation=each.nanmean(dim=0), draws=each)
            )
        return tuple(found)

    def _layers(self, target: Target, subject: Subject) -> dict[str, tuple[str, ...]]:
        if id(target) not in self.layers:
            first = torch.zeros(1, dtype=torch.long, device=self.batch.device)
            self.layers[id(target)] = weight_layers(self.model, subject.score, self.batch[:1], first)
        return self.layers[id(target)]

    def _tell(self, subject: Subject, step: str, total: int) -> None:
        """Report the progress of a subject's passes as one step."""
        done = 0

        def told(evaluations: int) -> None:
            nonlocal done
            done += evaluations
            self.progress(step, min(done, total), total)

        subject.told = told
