"""A zoo of video models: plugins register them, `zoo.load("name")` gives one ready to use.

Nothing here imports torch until a model, a clip or a batch is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import moved
from zoo.names import lazily

if TYPE_CHECKING:
    from zoo.clips import preprocess, read_clip
    from zoo.entries import InputSpec, Metric, ModelEntry, OutputSpec, Sample, WeightsEntry
    from zoo.entries.recipes import Recipe
    from zoo.errors import ZooError
    from zoo.models.loading import load
    from zoo.models.prediction import predict
    from zoo.models.records import Evaluation, Prediction
    from zoo.models.verification import verify
    from zoo.publishing.pushing import push
    from zoo.registry.catalog import list_models
    from zoo.registry.hookspecs import hookimpl
    from zoo.registry.resolving import info
    from zoo.training.evaluation import evaluate
    from zoo.weights.bundled import bundled_weights

#: Module that defines each public name; imported on first access.
_HOMES = {
    "Evaluation": "zoo.models.records",
    "InputSpec": "zoo.entries.spec",
    "Metric": "zoo.entries.spec",
    "ModelEntry": "zoo.entries.spec",
    "OutputSpec": "zoo.entries.spec",
    "Prediction": "zoo.models.records",
    "Recipe": "zoo.entries.recipes",
    "Sample": "zoo.entries.spec",
    "WeightsEntry": "zoo.entries.spec",
    "ZooError": "zoo.errors",
    "bundled_weights": "zoo.weights.bundled",
    "evaluate": "zoo.training.evaluation",
    "hookimpl": "zoo.registry.hookspecs",
    "info": "zoo.registry.resolving",
    "list_models": "zoo.registry.catalog",
    "load": "zoo.models.loading",
    "predict": "zoo.models.prediction",
    "preprocess": "zoo.clips",
    "push": "zoo.publishing.pushing",
    "read_clip": "zoo.clips",
    "verify": "zoo.models.verification",
}

__all__ = [
    "Evaluation",
    "InputSpec",
    "Metric",
    "ModelEntry",
    "OutputSpec",
    "Prediction",
    "Recipe",
    "Sample",
    "WeightsEntry",
    "ZooError",
    "bundled_weights",
    "evaluate",
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
moved.install()
