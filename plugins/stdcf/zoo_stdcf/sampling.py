"""The sample clips that the package bundles: fixed test clips of TR-MNIST."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from zoo_stdcf import translate_rotate

#: Number of first test clips.
CLIPS = 6


def write(path: Path) -> tuple[str, ...]:
    """Write the tensor `clips`, 6 x 8 x 28 x 28 x 1 (uint8), and return what each clip shows."""
    images, drawn = translate_rotate.fixed_set("test", CLIPS)
    clips = translate_rotate.render(images, drawn).permute(0, 2, 3, 4, 1).contiguous()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(save({"clips": clips}))
    return tuple(f"digits {a} and {b}" for a, b in drawn.digit.tolist())
