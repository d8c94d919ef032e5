"""Recomputation of a map with its settings, on other samples or a changed model, and its stability."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import captum.metrics
import torch
from torch import Tensor, nn

from explain.attribution import Attribution, Method
from explain.attribution.options import accepted
from explain.attribution.runner import attribute
from explain.faithfulness.removal import Subject
from explain.model.layouts import from_ncthw
from explain.model.memory import Progress
from explain.model.preservation import generator
from explain.model.targets import select
from zoo.errors import ModelError, UnknownNameError, UsageError

#: What replaces removed parts in deletion and insertion.
FILLS = ("surroundings", "baseline")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """The computation spent on one map, and its settings.

    Raises:
        UnknownNameError: Unknown fill.
        UsageError: An invalid count.
    """

    #: Points of each curve after the first.
    steps: int = 64
    #: Random orders, in pairs of an order and its reverse.
    draws: int = 20
    #: Depths at which the randomized model's map is computed; None uses every layer.
    depths: int | None = None
    #: Draws of random weights for the last layer, which the verdict uses; deeper layers are drawn once.
    redraws: int = 8
    #: Number of boxes for infidelity.
    boxes: int = 64
    #: Number of noise draws for max-sensitivity.
    neighbours: int = 8
    #: Whether all kinds of removal are run, or only those that the verdict needs: frames, and pixels of single frames.
    every_kind: bool = True
    #: What replaces removed parts: "surroundings" or "baseline".
    fill: str = "surroundings"
    #: Settings that override the map's own when maps are recomputed.
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise for invalid counts and names."""
        # A curve with one step connects the whole clip and the empty clip, whatever the map.
        fewest = {"steps": 2, "draws": 2, "depths": 1, "redraws": 1, "boxes": 2, "neighbours": 1}
        for name, least in fewest.items():
            count = getattr(self, name)
            if count is not None and count < least:
                raise UsageError(f"{name} must be at least {least}, got {count}")
        if self.fill not in FILLS:
            raise UnknownNameError("fill", self.fill, FILLS)


class Again:
    """The method and settings of an attribution, ready to run again.

    Args:
        model: The model.
        attribution: The map to recompute.
        method: The method that computed it.
        baseline: The baseline, if the attribution does not store it (a tensor).
        settings: Settings that override the attribution's own.
        batch_size: As in `explain.attribute`.
        seed: Seed for random methods whose results do not store theirs.

    Raises:
        UsageError: The map's baseline was a tensor, and `baseline` is missing.
    """

    def __init__(
        self,
        model: nn.Module,
        attribution: Attribution,
        method: Method,
        *,
        baseline: Tensor | float | str | None = None,
        settings: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        self.attribution = attribution
        self.method = method
        own = accepted(method, attribution.settings)
        self.options = {**own, **accepted(method, {**own, **(settings or {})})}
        #: Whether the settings are unchanged, so that the same map is recomputed.
        self.as_made = self.options == own
        if is_tensor(self.options.get("baseline")):
            if not isinstance(baseline, torch.Tensor):
                check_kept(attribution.method, self.options["baseline"])
            self.options["baseline"] = baseline
        self.batch_size = batch_size
        #: A map of a random method is recomputed with its own seed.
        self.seed = attribution.settings.get("seed", seed)

    def __call__(self, batch: Tensor, samples: Tensor, progress: Progress | None = None) -> Tensor:
        """Compute the map M x T x H x W of M samples, each a version of an original one (`samples`: M integers)."""
        options = dict(self.options)
        baseline = options.get("baseline")
        if isinstance(baseline, torch.Tensor) and baseline.shape[:1] == self.attribution.map.shape[:1]:
            options["baseline"] = baseline[samples]
        return attribute(
            self.model,
            batch,
            method=self.method,
            target=select(self.attribution.target, samples),
            layer=self.attribution.layer,
            batch_size=self.batch_size,
            seed=self.seed,
            progress=progress,
            **options,
        ).map.double()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """Input of a measure of a map."""

    attribution: Attribution
    #: The method of the map; None if it is not registered.
    method: Method | None
    #: The prepared model, batch, target and baseline, and the output with parts of the clip removed (`without`).
    subject: Subject
    effort: Effort
    #: Seed of everything that a measure draws.
    seed: int
    #: The map's method with its settings, or the reason why it cannot run.
    again: Again | ModelError
    #: Returns the progress callback for recomputing one map.
    told: Callable[[], Progress]
    #: Values that measures share between all maps of one target, by name.
    kept: dict[str, Any]
    #: Values that measures of this map share, by name.
    own: dict[str, Any] = field(default_factory=dict)

    def recompute(self, batch: Tensor, samples: Tensor) -> Tensor:
        """Compute the map M x T x H x W of M clips, each a version of a sample of the batch.

        Raises:
            ModelError, PluginError: It cannot be recomputed.
        """
        if not isinstance(self.again, Again):
            raise self.again
        return self.again(batch, samples, self.told())

    @property
    def known(self) -> Tensor:
        """Return the map of the batch as `recompute` computes it: N x T x H x W."""
        if "known" not in self.own:
            exact = isinstance(self.again, Again) and self.again.as_made
            samples = torch.arange(len(self.subject.batch), device=self.subject.batch.device)
            self.own["known"] = self.attribution.map.double() if exact else self.recompute(self.subject.batch, samples)
        found: Tensor = self.own["known"]
        return found


def check_kept(method: str, baseline: Any) -> None:
    """Raise for a baseline that a result does not store.

    Raises:
        UsageError: The baseline was a tensor.
    """
    if is_tensor(baseline):
        raise UsageError(
            f"{method} was computed against a tensor, which its result does not keep; give that tensor as baseline"
        )


def is_tensor(baseline: Any) -> bool:
    """Check whether a setting records that the baseline, or one of several, was a tensor (see `attribution.runner`)."""
    if isinstance(baseline, list):
        return any(is_tensor(one) for one in baseline)
    return isinstance(baseline, str) and baseline.startswith("tensor ")


#: Offset of the seed of noise.
NOISE: Final = 4

#: Largest change of an input value, as a share of the sample's range.
RADIUS = 0.02


def max_sensitivity(trial: Trial) -> Tensor:
    """Compute the largest ||map(x + d) - map(x)|| / ||map(x)|| over a few uniform d with |d| <= r: N.

    r is `RADIUS` of each sample's range (Yeh et al., arXiv 1901.09392, definition 3.1; captum's `sensitivity_max`). The
    target is that for x, even if the noise changes the predicted class. All samples get the same noise, up to their
    range.

    Raises:
        ModelError, PluginError: The map cannot be recomputed.
    """
    batch, known = trial.subject.batch, trial.known
    layout, draws = trial.subject.layout, trial.effort.neighbours  # the same noise for every layout
    shape = trial.subject.clips.shape[1:]
    noise = torch.rand(draws, *shape, generator=generator(trial.seed, NOISE), dtype=torch.float64) * 2 - 1
    noise = from_ncthw(noise, layout).to(batch)

    def of(sample: int) -> Tensor:
        own = batch[sample : sample + 1]
        radius = RADIUS * float(own.max() - own.min())

        def explanation(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            clips = inputs[0]
            if len(clips) == 1 and torch.equal(clips, own):
                return (known[sample : sample + 1],)
            return (trial.recompute(clips, torch.full((len(clips),), sample, device=batch.device)),)

        largest: Tensor = captum.metrics.sensitivity_max(
            explanation,
            (own,),
            perturb_func=_noisy(noise),
            perturb_radius=radius,
            n_perturb_samples=draws,
        )
        return largest

    return torch.cat([of(sample) for sample in range(len(batch))]).double().cpu()


def _noisy(noise: Tensor) -> Callable[[Tensor, float], tuple[Tensor, ...]]:
    """Return the function that Captum calls with copies of the sample, one per draw."""
    return lambda copies, radius: (copies + radius * noise,)


def infidelity(trial: Trial) -> Tensor:
    """Compute infidelity (Yeh et al., 2019) on random boxes, the same for all maps of one target: N."""
    found: Tensor = trial.kept["boxes"].infidelity(trial.attribution, trial.method)
    return found
