"""The public API for plugins: the parts of `explain` that their sections, methods and views use.

Everything else inside `explain` may move between versions; the names here are stable. Importing this module does not
import torch; names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from explain.attribution.job import Job, Raw
    from explain.attribution.methods import Method
    from explain.attribution.options import BaselineOptions, BlockOptions, WindowOptions, option
    from explain.drawing import colours, figures, kernels, notebook, numbers, sprites
    from explain.drawing.kernels import loops
    from explain.drawing.sprites import Sprite, clip_sprite, overlay_sprite
    from explain.drawing.templates import render
    from explain.faithfulness.measures import Test
    from explain.faithfulness.repetition import Trial
    from explain.model.layouts import input_of
    from explain.reporting import intervals
    from explain.reporting.context import Context, Subject
    from explain.reporting.reading import following
    from explain.reporting.sections import Content, Section
    from explain.reporting.topics.prediction import painted
    from explain.robustness import perturbations
    from explain.robustness.perturbations import Perturbation

#: Module that defines each name; "package.module:" is the module itself.
_HOMES = {
    # Arguments and return types of the hooks.
    "BaselineOptions": "explain.attribution.options",
    "BlockOptions": "explain.attribution.options",
    "Content": "explain.reporting.sections",
    "Context": "explain.reporting.context",
    "Job": "explain.attribution.job",
    "Method": "explain.attribution.methods",
    "Raw": "explain.attribution.job",
    "Perturbation": "explain.robustness.perturbations",
    "Section": "explain.reporting.sections",
    "Subject": "explain.reporting.context",
    "Test": "explain.faithfulness.measures",
    "Trial": "explain.faithfulness.repetition",
    "WindowOptions": "explain.attribution.options",
    "option": "explain.attribution.options",
    # Pages: templates, sprites, figures and numbers.
    "Sprite": "explain.drawing.sprites",
    "clip_sprite": "explain.drawing.sprites",
    "colours": "explain.drawing.colours:",
    "figures": "explain.drawing.figures:",
    "intervals": "explain.reporting.intervals:",
    "numbers": "explain.drawing.numbers:",
    "overlay_sprite": "explain.drawing.sprites",
    "painted": "explain.reporting.topics.prediction",
    "render": "explain.drawing.templates",
    "sprites": "explain.drawing.sprites:",
    # Kernels, and the frames that follow a clip.
    "following": "explain.reporting.reading",
    "input_of": "explain.model.layouts",
    "kernels": "explain.drawing.kernels:",
    "loops": "explain.drawing.kernels",
    # Notebook views of results, and the perturbations.
    "notebook": "explain.drawing.notebook:",
    "perturbations": "explain.robustness.perturbations:",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazily(__name__, _HOMES)
