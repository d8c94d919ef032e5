"""A zoo of video models: plugins register them, `zoo.load("name")` gives one ready to use.

Nothing here imports torch until a model, a clip or a batch is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.importing import lazily

if TYPE_CHECKING:
    from zoo.catalog import info, list_models
    from zoo.clips import preprocess, read_clip
    from zoo.entries import InputSpec, Metric, ModelEntry, OutputSpec, Sample, WeightsEntry
    from zoo.errors import ZooError
    from zoo.hookspecs import hookimpl
    from zoo.loading import load
    from zoo.prediction import predict
    from zoo.publishing import push
    from zoo.training.recipes import Recipe
    from zoo.verification import verify

#: Where each public name is defined; imported when it is first asked for.
_HOMES = {
    "InputSpec": "zoo.entries",
    "Metric": "zoo.entries",
    "ModelEntry": "zoo.entries",
    "OutputSpec": "zoo.entries",
    "Recipe": "zoo.training.recipes",
    "Sample": "zoo.entries",
    "WeightsEntry": "zoo.entries",
    "ZooError": "zoo.errors",
    "hookimpl": "zoo.hookspecs",
    "info": "zoo.catalog",
    "list_models": "zoo.catalog",
    "load": "zoo.loading",
    "predict": "zoo.prediction",
    "preprocess": "zoo.clips",
    "push": "zoo.publishing",
    "read_clip": "zoo.clips",
    "verify": "zoo.verification",
}

__all__ = [
    "InputSpec",
    "Metric",
    "ModelEntry",
    "OutputSpec",
    "Recipe",
    "Sample",
    "WeightsEntry",
    "ZooError",
    "hookimpl",
    "info",
    "list_models",
    "load",
    "predict",
    "preprocess",
    "push",
    "read_clip",
    "verify",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
