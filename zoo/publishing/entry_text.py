"""The text of a `WeightsEntry`, to be pasted into a plugin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.entries.recipes import Recipe


def weights_entry(recipe: Recipe, file: Path) -> str:
    """The entry of a weights file that a recipe made, as its plugin's module says it: to be pasted there.

    Args:
        recipe: With its functions in the plugin's package, which is to hold the file in its folder `weights`.
        file: The weights file, its record beside it.
    """
    record = json.loads(file.with_suffix(".json").read_bytes())
    place = f"{recipe.evaluate.partition(':')[0].partition('.')[0]}:weights/{file.stem}"
    fields = {
        "tag": recipe.name.partition(".")[2],
        "source": f"{place}.safetensors",
        "bytes": file.stat().st_size,
        "sha256": record["sha256"],
        "recipe": recipe.name,
        "golden": f"{place}.golden.safetensors",
        "record": f"{place}.json",
    }
    if recipe.header.get("arguments"):
        fields["arguments"] = dict(recipe.header["arguments"])
    lines = [f"    {name}={_literal(value)}," for name, value in fields.items()]
    metrics = [
        f"        Metric({', '.join(f'{name}={_literal(value)}' for name, value in metric.items())}),"
        for metric in record["metrics"]
    ]
    return "\n".join(["WeightsEntry(", *lines, "    metrics=(", *metrics, "    ),", ")"])


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
