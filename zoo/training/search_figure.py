"""The results of a search as boxes: metrics by the values of one setting, with trials that collapsed left out."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from zoo.training.search import Found

#: Inches: of a chart, its width and height.
_WIDTH, _HEIGHT = 5.4, 3.8


def draw(found: Found) -> bytes:
    """An SVG with a chart for each metric: quartiles, median and every trial; the same results give the same bytes."""
    from zoo.training.search import values_of

    metrics = list(dict.fromkeys([found.metric, *(name for group in found.groups for name in group.spread)]))
    setting = found.compared.rpartition(".")[2].replace("_", " ")
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "motion-zoo", "font.size": 9}):
        drawn = Figure(figsize=(_WIDTH * len(metrics), _HEIGHT), layout="constrained")
        for place, metric in enumerate(metrics):
            axes = drawn.add_subplot(1, len(metrics), place + 1)
            labels, every = [], []
            for at, group in enumerate(found.groups, start=1):
                own = [one for one in found.trials if one.settings[found.compared] == group.value]
                values = values_of(own, metric)
                every += values
                if values:
                    axes.boxplot([values], positions=[at], widths=0.55, showfliers=False)
                    axes.plot([at] * len(values), values, ".", color="tab:blue", alpha=0.5, markersize=4)
                said = [f"{len(values)} trial{'s' * (len(values) != 1)}"]
                counts = {"collapsed": group.collapsed, "failed": group.failed}
                said += [f"{count} {what}" for what, count in counts.items() if count]
                labels.append("\n".join([str(group.value).replace("_", " "), *said]))
            axes.set_xticks(range(1, len(labels) + 1), labels)
            axes.set_xlim(0.4, len(labels) + 0.6)
            if every and min(every) > 0:
                axes.set_yscale("log")
            axes.set_title(metric, loc="left")
            axes.set_xlabel(setting)
            axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        page = io.BytesIO()
        drawn.savefig(page, format="svg", metadata={"Date": None})
    return page.getvalue()
