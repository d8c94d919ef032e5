"""Recompute a map with its settings, on other samples or a changed model, and measure how stable it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

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
from zoo.errors import ModelError, UsageError

if TYPE_CHECKING:
    from explain.faithfulness.checking import Effort


class Again:
    """The method of an attribution with its settings, ready to run.

    Args:
        model: The model.
        attribution: The map to be made again.
        method: What made it.
        baseline: What the map is seen against, where the attribution does not keep it (a tensor).
        settings: Settings other than the attribution's own.
        batch_size: As in `explain.attribute`.
        seed: For methods that draw and whose results do not keep theirs.

    Raises:
        UsageError: The map was computed against a tensor, and none is given.
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
        #: Whether it makes the very map that was given.
        self.as_made = self.options == own
        if is_tensor(self.options.get("baseline")):
            if not isinstance(baseline, torch.Tensor):
                check_kept(attribution.method, self.options["baseline"])
            self.options["baseline"] = baseline
        self.batch_size = batch_size
        #: A map that was drawn is drawn again by its own seed.
        self.seed = attribution.settings.get("seed", seed)

    def __call__(self, batch: Tensor, samples: Tensor, progress: Progress | None = None) -> Tensor:
        """The map M x T x H x W of M samples, each standing for one of the attribution's (`samples`: M, integers)."""
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
    """What a measure of a map is given."""

    attribution: Attribution
    #: What made the map; None where nobody registers it.
    method: Method | None
    #: The prepared model, batch, target and baseline, and the output with parts of the clip removed (`without`).
    subject: Subject
    effort: Effort
    #: Seed of everything that a measure draws.
    seed: int
    #: The map's method with its settings, or the reason why it cannot run.
    again: Again | ModelError
    #: Gives the function that the progress of recomputing one map is told to.
    told: Callable[[], Progress]
    #: What measures share between all maps of one target, by name.
    kept: dict[str, Any]
    #: What they share between each other, of this map.
    own: dict[str, Any] = field(default_factory=dict)

    def recompute(self, batch: Tensor, samples: Tensor) -> Tensor:
        """Compute the map M x T x H x W of M clips like those of the batch, each standing for one of its samples.

        Raises:
            ModelError, PluginError: It cannot be recomputed.
        """
        if not isinstance(self.again, Again):
            raise self.again
        return self.again(batch, samples, self.told())

    @property
    def known(self) -> Tensor:
        """The map of the batch as `recompute` makes it: N x T x H x W."""
        if "known" not in self.own:
            exact = isinstance(self.again, Again) and self.again.as_made
            samples = torch.arange(len(self.subject.batch), device=self.subject.batch.device)
            self.own["known"] = self.attribution.map.double() if exact else self.recompute(self.subject.batch, samples)
        found: Tensor = self.own["known"]
        return found


def check_kept(method: str, baseline: Any) -> None:
    """Refuse a baseline that a result does not keep.

    Raises:
        UsageError: It was a tensor.
    """
    if is_tensor(baseline):
        raise UsageError(
            f"{method} was computed against a tensor, which its result does not keep; give that tensor as baseline"
        )


def is_tensor(baseline: Any) -> bool:
    """Whether a setting says that the baseline, or one of several, was a tensor (`explain.attribution.runner`)."""
    if isinstance(baseline, list):
        return any(is_tensor(one) for one in baseline)
    return isinstance(baseline, str) and baseline.startswith("tensor ")


#: Added to the seed of noise.
NOISE: Final = 4

#: Largest change of a number of the input, as a share of the sample's range.
RADIUS = 0.02


def max_sensitivity(trial: Trial) -> Tensor:
    """Measure the largest ||map(x + d) - map(x)|| / ||map(x)|| over a few uniform d with |d| <= r: N.

    r is `RADIUS` of each sample's range (Yeh et al., arXiv 1901.09392, definition 3.1; captum's `sensitivity_max`). The
    target stays what it is for x, also where the noise changes what the model predicts. All samples get the same noise,
    up to their range.

    Raises:
        ModelError, PluginError: The map cannot be recomputed.
    """
    batch, known = trial.subject.batch, trial.known
    layout, draws = trial.subject.layout, trial.effort.neighbours  # the same noise for every order of the axes
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
    """What captum calls with copies of the sample, one for each draw."""
    return lambda copies, radius: (copies + radius * noise,)
