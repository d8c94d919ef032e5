"""Make a map again: of other samples, or of a changed model; as it was made, or coarser and cheaper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from explain.attribution.options import accepted
from explain.attribution.runner import attribute
from explain.model.targets import select
from zoo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from explain.attribution import Attribution, Method
    from explain.model.memory import Progress


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
                raise UsageError(
                    f"{attribution.method} was computed against a tensor, which its result does not keep; give that "
                    "tensor as baseline"
                )
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


def is_tensor(baseline: Any) -> bool:
    """Whether a setting says that the baseline, or one of several, was a tensor (`explain.attribution.runner`)."""
    if isinstance(baseline, list):
        return any(is_tensor(one) for one in baseline)
    return isinstance(baseline, str) and baseline.startswith("tensor ")
