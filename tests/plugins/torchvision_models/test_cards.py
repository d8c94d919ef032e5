"""Each card says what the entry says."""

from __future__ import annotations

from pathlib import Path

import zoo

CARDS = Path(__file__).parents[3] / "cards"


def test_the_card_gives_the_figures_of_the_entry(name):
    entry = zoo.info(name)
    card = " ".join((CARDS / f"{name}.md").read_text(encoding="utf-8").split())
    for figure in (f"{entry.parameters:,}", entry.paper, *map(str, entry.input.mean), *map(str, entry.input.std)):
        assert figure in card
    for weights in entry.weights:
        row = f"| `{weights.tag}` | {weights.source.rpartition('/')[2]} | "
        assert row in card
        shown = " | ".join(f"{metric.value:.1%}".replace("%", " %") for metric in weights.metrics)
        assert f"`{weights.sha256}` | {shown} |" in card
