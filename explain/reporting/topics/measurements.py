"""Section on stored measurements of models, compared; only intervals and tests of differences are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from explain.drawing.numbers import listed, numbers, percent_text
from explain.drawing.templates import render
from explain.reporting.intervals import interval, of_answers, of_errors, of_shares
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from explain.reporting.context import Subject

#: Words in a metric's name that determine which direction is better; other metrics have no best.
_LOWER = ("error", "loss", "distance", "perplexity")

_HIGHER = ("accuracy", "precision", "recall", "score", "similarity", "psnr", "ssim")

#: Minimum number of clips to mark a best for a measure without a test: on fewer, chance may order them.
_ENOUGH = 500

#: Minimum relative lead of the best without a test: retraining would change values by more.
_AHEAD = 1e-3

#: Description of each test, for readers.
_TESTS = {
    "McNemar": "by McNemar's exact test of paired answers, where both are stored clip by clip",
    "Fisher": "by Fisher's exact test where they are not, as if the models had been measured on different clips",
    "paired bootstrap": "by the 95 % interval of the mean difference (paired bootstrap) where errors are stored so",
}


def build_models(subjects: Sequence[Subject]) -> Content:
    """Tabulate parameters, weights and metrics; the best figure is marked if the clips suffice to determine it."""
    data = {"models": [_model(subject) for subject in subjects], "metrics": metrics(subjects)}
    used = {one["test"] for row in data["metrics"] for one in row["differences"]}
    how = "; ".join(what for test, what in _TESTS.items() if test in used)
    return Content(html=render("measurements.html", how=how, **data), data=data)


def metrics(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Return a row per dataset, split and metric: a value and, for an accuracy, its 95% interval, for each model.

    `best` is the index of the best model, or None: if the metric's name does not determine which direction is better,
    if it does not differ from another (`explain.reporting.intervals`), or, for a metric without a test, if the models
    were not all measured on the same number of clips, at least 500, or the second is within a thousandth. `differences`
    holds the tests of the first in order against the others: `model` and `other`, their indices, and the test's fields.
    `clips` is the number of clips of each value, or None.
    """
    keys = dict.fromkeys(
        (metric["dataset"], metric["split"], metric["name"])
        for subject in subjects
        for metric in (subject.evaluation or {}).get("metrics", ())
    )
    rows = []
    for dataset, split, name in keys:
        values = [_value(subject, dataset, split, name) for subject in subjects]
        clips = [
            (subject.evaluation or {}).get("clips_measured") if value is not None else None
            for subject, value in zip(subjects, values, strict=True)
        ]
        share = _is_share(name, values)
        intervals = [
            interval(value, count) if share and count and value is not None else None
            for value, count in zip(values, clips, strict=True)
        ]
        each = [
            _each(subject, name) if value is not None else None for subject, value in zip(subjects, values, strict=True)
        ]
        differences = _differences(name, values, clips if share else [None] * len(clips), each)
        rows.append(
            {
                "dataset": dataset,
                "split": split,
                "name": name,
                "kind": "share" if share else "number",
                "better": _better(name),
                "values": values,
                "clips": clips,
                "intervals": intervals,
                "best": _best(name, values, clips, differences),
                "differences": differences,
            }
        )
    return rows


def warnings(subjects: Sequence[Subject]) -> list[str]:
    """Return reasons why the figures are not directly comparable."""
    said = []
    without = [subject.name for subject in subjects if not subject.evaluation]
    if without:
        said.append(f"no evaluation of {listed(without).striptags()} is stored.")
    measured = [subject for subject in subjects if subject.evaluation]
    on = {
        subject.name: ", ".join(
            dict.fromkeys(f"{one['dataset']} ({one['split']})" for one in (subject.evaluation or {})["metrics"])
        )
        for subject in measured
    }
    if len(set(on.values())) > 1:
        told = "; ".join(f"{name}: {where or 'nothing'}" for name, where in on.items())
        said.append(f"the models were not measured on the same data ({told}).")
        return said
    counts = {subject.name: (subject.evaluation or {}).get("clips_measured") for subject in measured}
    if len(set(counts.values())) > 1:
        told = "; ".join(f"{name}: {count:,}" if count else f"{name}: not told" for name, count in counts.items())
        said.append(f"the models were not measured on the same number of clips ({told}).")
    return said


def sentence(subjects: Sequence[Subject]) -> str:
    """State the best model for each metric, or that the clips do not suffice, if measured alike; else return ""."""
    if warnings(subjects):
        return ""
    said, undecided = [], []
    for row in metrics(subjects):
        best = row["best"]
        if best is not None:
            value = row["values"][best]
            text = percent_text(value, 1) if row["kind"] == "share" else numbers(row["values"], 4)[best].striptags()
            said.append(f"best {row['name']}: {subjects[best].name} ({text})")
        elif row["better"] and len(row["differences"]) == len(subjects) - 1:
            undecided.append(row)
    if undecided:
        names = listed([row["name"] for row in undecided]).striptags()
        what = f"no difference in {names}" if len(subjects) == 2 else f"no best {names}"
        count = undecided[0]["clips"][0]
        said.append(f"{what} that {f'{count:,}' if count else 'these'} clips can tell")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _model(subject: Subject) -> dict[str, Any]:
    weights = subject.entry.weights[0] if subject.entry and subject.entry.weights else None
    evaluation = subject.evaluation or {}
    return {
        "name": subject.name,
        "summary": subject.entry.summary if subject.entry else None,
        "parameters": subject.entry.parameters if subject.entry else None,
        "weights": None if weights is None else {"tag": weights.tag, "bytes": weights.bytes, "sha256": weights.sha256},
        "clips_measured": evaluation.get("clips_measured"),
        "evaluated": bool(evaluation),
    }


def _value(subject: Subject, dataset: str, split: str, name: str) -> float | None:
    for metric in (subject.evaluation or {}).get("metrics", ()):
        if (metric["dataset"], metric["split"], metric["name"]) == (dataset, split, name):
            value: float | None = metric["value"]
            return value
    return None


def _better(name: str) -> str | None:
    words = name.casefold().replace("_", " ").split()
    if any(word in words for word in _LOWER):
        return "lower"
    return "higher" if any(word in words for word in _HIGHER) else None


def _is_share(name: str, values: Sequence[float | None]) -> bool:
    return "accuracy" in name.casefold() and all(value is None or 0 <= value <= 1 for value in values)


def _each(subject: Subject, name: str) -> str | list[float] | None:
    """Return the stored per-clip results of a metric (`zoo.training.evaluation.per_clip`)."""
    found: str | list[float] | None = (subject.evaluation or {}).get("per_clip", {}).get(name)
    return found


def _in_order(name: str, values: Sequence[float | None]) -> list[int]:
    """Return the indices of the models with a value, best first; empty if the direction is unknown."""
    better = _better(name)
    known = [place for place, value in enumerate(values) if value is not None]
    if better is None or len(known) < 2:
        return []
    return sorted(known, key=lambda place: (values[place] or 0.0) * (1 if better == "lower" else -1))


def _differences(
    name: str,
    values: Sequence[float | None],
    clips: Sequence[int | None],
    each: Sequence[str | list[float] | None],
) -> list[dict[str, Any]]:
    """Test the best value against every other; those without stored per-clip results are omitted.

    Args:
        name: Name of the metric.
        values: One per model.
        clips: Numbers of clips of shares; None for other metrics.
        each: Stored per-clip results.
    """
    found = []
    first, *others = _in_order(name, values) or [0]
    for other in others:
        one, two, tested = each[first], each[other], None
        count, other_count = clips[first], clips[other]
        if isinstance(one, str) and isinstance(two, str) and len(one) == len(two):
            tested = of_answers(one, two)
        elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
            tested = of_errors(one, two)
        elif count and other_count:
            tested = of_shares(values[first] or 0.0, count, values[other] or 0.0, other_count)
        if tested is not None:
            found.append({"model": first, "other": other, **asdict(tested)})
    return found


def _best(
    name: str,
    values: Sequence[float | None],
    clips: Sequence[int | None],
    differences: Sequence[dict[str, Any]],
) -> int | None:
    first, *others = _in_order(name, values) or [0]
    if not others:
        return None
    if not differences and not _is_share(name, values):
        count = clips[first]
        alike = count is not None and count >= _ENOUGH and all(clips[place] == count for place in others)
        best, second = values[first] or 0.0, values[others[0]] or 0.0
        return first if alike and abs(best - second) > _AHEAD * max(abs(best), abs(second)) else None
    return first if len(differences) == len(others) and all(one["differ"] for one in differences) else None
