"""The README's Python runs, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


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
