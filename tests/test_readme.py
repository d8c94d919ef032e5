"""The README tells what the entries say, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import zoo
from zoo.publishing import cards

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_every_model_stands_in_the_table_with_its_measured_metrics():
    for name in zoo.list_models():
        entry = zoo.info(name)
        row = next(line for line in README.splitlines() if line.startswith(f"| [`{name}`]"))
        assert f"{entry.parameters:,}" in row
        for weights in entry.weights:
            assert f"`{weights.tag}`" in row
            for metric in weights.metrics:
                if metric.name.endswith("accuracy"):
                    assert cards.percent(metric.value) in row
                elif "error" in metric.name:  # PSNR and the like say the same in other words
                    assert (f"{metric.value:.3f}" if metric.value > 0.01 else f"{metric.value:.4g}") in row


def test_the_lines_of_python_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = README.partition("## In Python")[2].partition("\n## ")[0]
    scope: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL):
        exec(code, scope)
    assert scope["attribution"].map.shape == (1, 48, 64, 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.png", "map.safetensors"]


def test_every_link_into_the_repository_leads_somewhere():
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (root / target).exists(), target
