import re

import pytest
import torch
from matplotlib.figure import Figure

from zoo.training import search
from zoo.training.search import Found, Group, Trial

METRICS = ("first error", "second error")


def found(values, compared="stage.arguments.kind"):
    """A search whose trials have these first errors, by group; None collapsed, "failed" failed."""
    trials, groups = [], []
    for kind, own in values.items():
        for value in own:
            failed, collapsed = value == "failed", value is None
            metrics = {} if failed else {name: 9.0 if collapsed else k * value for k, name in enumerate(METRICS, 1)}
            trials.append(
                Trial(
                    number=len(trials),
                    status="failed" if failed else "finished",
                    settings={compared: kind},
                    metrics=metrics,
                    collapsed=collapsed,
                )
            )
        kept = [value for value in own if isinstance(value, float)]
        groups.append(
            Group(
                value=kind,
                finished=len(own) - own.count("failed"),
                collapsed=own.count(None),
                failed=own.count("failed"),
                spread={name: {"median": 0.0} for name in METRICS} if kept else {},
            )
        )
    return Found(
        recipe="toy.tag",
        seed=0,
        metric=METRICS[0],
        maximize=False,
        space={},
        trials=trials,
        best=None,
        compared=compared,
        groups=groups,
    )


def boxes_and_points(monkeypatch, values):
    """The charts that are drawn: title, scale, positions of boxes, heights of points, words under each group."""
    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda figure, *given, **named: (drawn.append(figure), save(figure, *given, **named)),
    )
    page = search.draw(found(values)).decode()
    charts = []
    for axes in drawn[0].axes:
        points = [line for line in axes.lines if line.get_marker() == "."]
        medians = [line for line in axes.lines if line.get_color() == "C1"]
        charts.append(
            {
                "title": axes.get_title(loc="left"),
                "scale": axes.get_yscale(),
                "medians": [float(line.get_ydata()[0]) for line in medians],
                "places": [round(float(line.get_xdata().mean()), 6) for line in medians],
                "points": [sorted(map(float, line.get_ydata())) for line in points],
                "words": [label.get_text().split("\n") for label in axes.get_xticklabels()],
            }
        )
    return charts, page


def test_each_metric_has_a_chart_with_a_box_for_each_group_that_has_values(monkeypatch):
    values = {"base": [0.1, 0.4, 0.2, None, "failed"], "denoised": [], "fully_processed": [0.3]}
    (first, second), page = boxes_and_points(monkeypatch, values)
    assert (first["title"], second["title"]) == METRICS
    assert first["places"] == [1, 3]  # the group without trials has its place, and no box
    assert first["medians"] == pytest.approx([0.2, 0.3])
    assert second["medians"] == pytest.approx([0.4, 0.6])
    assert first["points"] == [[0.1, 0.2, 0.4], [0.3]]
    assert first["words"] == [
        ["base", "3 trials", "1 collapsed", "1 failed"],
        ["denoised", "0 trials"],
        ["fully processed", "1 trial"],
    ]
    assert first["scale"] == "log"
    assert re.match(r"<\?xml", page)


@pytest.mark.parametrize("values", [[-0.5, 0.2, 0.7], [0.0, 0.1], []])
def test_only_what_is_positive_is_drawn_on_a_logarithmic_scale(monkeypatch, values):
    charts, _ = boxes_and_points(monkeypatch, {"base": values})
    assert charts[0]["scale"] == "linear"
    assert charts[0]["points"] == ([sorted(values)] if values else [])


def test_the_same_results_give_the_same_bytes():
    values = {"base": torch.rand(9, generator=torch.Generator().manual_seed(0)).tolist()}
    assert search.draw(found(values)) == search.draw(found(values))
