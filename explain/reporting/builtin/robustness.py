"""What noise, missing pixels and wrong frames do to the answer for this clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explain.reporting import perturbed
from explain.reporting.cost import DEAR, FORBIDDING, operations
from explain.robustness.checking import check_robustness
from explain.robustness.results import Robustness
from explain.robustness.spoiling import Spoiled
from zoo.errors import MemoryLimitError, ModelError

if TYPE_CHECKING:
    from explain.reporting.context import Context
    from explain.reporting.sections import Content

#: What is done to clips where passes are dear.
FEW = ("gaussian_noise", "missing_square", "dropped_frames", "shuffled_frames")


def build(context: Context) -> Content:
    """All perturbations at a few levels, where the model is not too large for that."""
    effort, saved = effort_for(context)
    nothing = Robustness(measures={}, curves={}, samples=1)
    if effort is None:
        return perturbed.content(nothing, None, saved)
    try:
        with context.timed("robustness") as progress:
            truth = {name: after.to(context.batch) for name, after in context.truths.items()}
            result = check_robustness(
                context.model, context.batch, truth=truth or None, seed=context.seed, progress=progress, **effort
            )
    except (MemoryLimitError, ModelError) as error:
        return perturbed.content(nothing, None, f"The clip could not be perturbed: {error}.")
    spoiled = Spoiled(context.model, context.batch, fill=result.settings["fill"], seed=context.seed)
    return perturbed.content(result, spoiled, saved)


def effort_for(context: Context) -> tuple[dict[str, Any] | None, str]:
    """What a report spends, None for nothing, and how to say so."""
    if context.options.thorough:
        return {}, ""
    cost = operations(context)
    if cost > FORBIDDING:
        return None, "One pass of this model is too dear to perturb the clip in a report; explain robustness does it."
    if cost > DEAR:
        few: dict[str, Any] = {"perturbations": FEW, "levels": 3, "draws": 1}
        return few, "Passes of this model are dear, so these are few; explain robustness takes all, and more levels."
    return {"levels": 5, "draws": 1}, "One draw at each of five levels; explain robustness takes more of both."
