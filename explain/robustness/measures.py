"""Measures of a model's outputs, one number per sample, relative to the unchanged output or the ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explain.model.targets import Score, Target, TargetLike, part, resolve
from explain.robustness.results import Measure
from zoo.entries import OutputSpec
from zoo.errors import UsageError
from zoo.models.heads import by_head, output_specs, over_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A measure fixed for the samples of a batch, computed from the heads of M samples."""

    measure: Measure
    #: `read(heads, output, samples) -> M numbers`.
    read: Callable[[Mapping[str, Tensor], Any, Tensor], Tensor]


class Measures:
    """All measures of a batch, fixed by the outputs for the unchanged samples.

    Args:
        model: The model, prepared.
        batch: The unchanged samples.
        heads: The model's outputs for them, by name.
        target: As in `explain.check_robustness`.
        truth: Ground truth by head.
        measure: A function of the output.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Tensor,
        heads: Mapping[str, Tensor],
        *,
        target: TargetLike | Target = None,
        truth: Mapping[str, Tensor] | Tensor | None = None,
        measure: Callable[[Any, Tensor], Tensor] | None = None,
    ) -> None:
        self.model = model
        self._score: Score | None = None
        self._readers: list[Reader] = []
        self._specs = specs = output_specs(model, heads, batch)
        heads = over_time(heads, specs)
        right = _by_name(truth, heads)
        if measure is not None:
            self._readers = [_own(measure)]
            self.specs = [reader.measure for reader in self._readers]
            return
        resolved = target if target is None or isinstance(target, Target) else resolve(model, batch, target)
        # A unit, a callable, or a target of single frames.
        if resolved is not None and (resolved.head is None or specs[resolved.head].per_frame):
            self._score = Score(model, resolved)
            what = f"The number explained, {resolved.description}"
            self.specs = [Measure(name=resolved.description, kind="number", summary=what)]
            return
        for name in heads if resolved is None else [resolved.head]:
            head, spec = heads[str(name)], specs[str(name)]
            if head.ndim > 2 or spec.kind == "clip":
                self._readers += _of_clip(spec.name, head, right.get(spec.name), resolved)
            elif spec.kind == "value":
                self._readers += _of_value(spec, head, right.get(spec.name))
            else:
                classes = None if resolved is None else resolved.classes
                self._readers += _of_classes(spec.name, head, right.get(spec.name), classes)
        #: The measures.
        self.specs = [reader.measure for reader in self._readers]

    def read(self, batch: Tensor, samples: Tensor) -> Tensor:
        """Return measures x M: 64-bit numbers for M perturbed samples; `samples` (M) are their indices."""
        if self._score is not None:
            return self._score(batch, samples)[None].double()
        output = self.model(batch)
        heads = over_time(by_head(self.model, output), self._specs)
        return torch.stack([reader.read(heads, output, samples).double() for reader in self._readers])


def _by_name(truth: Mapping[str, Tensor] | Tensor | None, heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the ground truth by head, validated."""
    if truth is None:
        return {}
    if isinstance(truth, Tensor):
        if len(heads) > 1:
            raise UsageError(
                f"truth does not say which output it is of; the model gives {', '.join(heads)}: give a dict"
            )
        truth = {next(iter(heads)): truth}
    if not isinstance(truth, Mapping):
        raise UsageError(f"truth is a tensor, or a dict of them by output, not {type(truth).__name__}")
    found = {}
    for name, right in truth.items():
        if name not in heads:
            raise UsageError(f"truth is given for {name!r}, which the model does not give; it gives {', '.join(heads)}")
        if not isinstance(right, Tensor):
            raise UsageError(f"truth of {name!r} is a tensor, not {type(right).__name__}")
        head = heads[name]
        wanted = tuple(head.shape) if head.ndim > 2 else (len(head),)
        if tuple(right.shape) not in {wanted, (len(head), 1) if head.ndim <= 2 else wanted}:
            raise UsageError(f"truth of {name!r} is {tuple(right.shape)}; expected {wanted}")
        if not bool(right.isfinite().all()):
            raise UsageError(f"truth of {name!r} holds values that are no finite numbers")
        found[name] = right.to(head.device).reshape(wanted)
        if head.ndim == 2 and head.shape[1] > 1:
            wrong = (found[name] < 0) | (found[name] >= head.shape[1]) | (found[name] != found[name].long())
            if bool(wrong.any()):
                raise UsageError(
                    f"truth of {name!r} holds {found[name][wrong][0]:g}; classes are 0 to {head.shape[1] - 1}"
                )
    return found


def _own(measure: Callable[[Any, Tensor], Tensor]) -> Reader:
    name = getattr(measure, "__name__", type(measure).__name__).replace("_", " ").strip("<>")

    def read(_: Mapping[str, Tensor], output: Any, samples: Tensor) -> Tensor:
        value = measure(output, samples)
        if not isinstance(value, Tensor) or tuple(value.shape) != (len(samples),):
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UsageError(f"a measure must give one number for each of the {len(samples)} samples, not {got}")
        return value

    return Reader(measure=Measure(name=name, kind="number", summary="As the function given measures it"), read=read)


def _of_classes(name: str, head: Tensor, right: Tensor | None, target: Tensor | None) -> list[Reader]:
    said = head.argmax(dim=1)
    truth = None if right is None else right.long()
    followed = target if target is not None else truth if truth is not None else said
    whose = "the target's class" if target is not None else "the true class" if truth is not None else "that class"
    readers = [
        Reader(
            measure=Measure(
                name=f"{name} unchanged",
                kind="share",
                summary=f"Share of clips whose {name} is still the class that the model gives the unchanged clip",
            ),
            read=lambda heads, _, samples: heads[name].argmax(dim=1) == said[samples],
        ),
        Reader(
            measure=Measure(
                name=f"{name} probability", kind="probability", summary=f"Softmax probability of {whose} of {name}"
            ),
            read=lambda heads, _, samples: _taken(heads[name].double().softmax(dim=1), followed[samples]),
        ),
        Reader(
            measure=Measure(name=f"{name} logit", kind="number", summary=f"Logit of {whose} of {name}"),
            read=lambda heads, _, samples: _taken(heads[name], followed[samples]),
        ),
    ]
    if truth is None:
        return readers
    accuracy = Reader(
        measure=Measure(name=f"{name} accuracy", kind="share", summary=f"Share of clips whose {name} is right"),
        read=lambda heads, _, samples: heads[name].argmax(dim=1) == truth[samples],
    )
    return [accuracy, *readers]


def _taken(values: Tensor, classes: Tensor) -> Tensor:
    return values.gather(1, classes[:, None])[:, 0]


def _of_value(spec: OutputSpec, head: Tensor, right: Tensor | None) -> list[Reader]:
    name, unit = spec.name, spec.unit
    said = head.flatten().double()
    readers = [
        Reader(
            measure=Measure(
                name=f"{name} change",
                kind="error",
                unit=unit,
                summary=f"Distance of {name} from that of the unchanged clip",
            ),
            read=lambda heads, _, samples: (heads[name].flatten().double() - said[samples]).abs(),
        )
    ]
    if right is None:
        return readers
    truth = right.double()
    wrong = Reader(
        measure=Measure(name=f"{name} error", kind="error", unit=unit, summary=f"Distance of {name} from the truth"),
        read=lambda heads, _, samples: (heads[name].flatten().double() - truth[samples]).abs(),
    )
    return [wrong, *readers]


def _of_clip(name: str, head: Tensor, right: Tensor | None, target: Target | None) -> list[Reader]:
    """Return the mean squared error per pixel within the target's region, with that of a blank image for comparison."""

    def looked_at(clips: Tensor) -> Tensor:
        whole = clips.double()
        return whole if target is None or target.region is None else part(whole, target.region)

    truth = looked_at(head if right is None else right)
    of = name if target is None else target.description
    what = "the output for the unchanged clip" if right is None else "the true clip"
    blank = {"a blank clip (zeros)": float(truth.square().mean())}
    return [
        Reader(
            measure=Measure(
                name=f"{of} squared error",
                kind="error",
                summary=f"Mean squared error per pixel of {of} against {what}",
                lines=blank,
            ),
            read=lambda heads, _, samples: (looked_at(heads[name]) - truth[samples]).square().flatten(1).mean(dim=1),
        )
    ]
