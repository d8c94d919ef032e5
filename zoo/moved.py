"""Modules at their paths of version 0.1: they import from where things are now, with a DeprecationWarning."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: Former modules, and where their names are now, in the order searched.
FORMER: dict[str, tuple[str, ...]] = {
    "explain.attribution.jobs": ("explain.attribution.job",),
    "explain.effective_fields": ("explain.fields.effective",),
    "explain.layers": ("explain.model.layers",),
    "explain.layouts": ("explain.model.layouts",),
    "explain.regions": ("explain.model.regions",),
    "explain.reporting.builtin": ("explain.reporting.topics",),
    "explain.reporting.builtin.motion": ("explain.reporting.topics.motion", "explain.drawing.kernels"),
    "explain.reporting.colour": ("explain.drawing.colours",),
    "explain.reporting.compared": ("explain.reporting.topics",),
    "explain.reporting.compared.measurements": ("explain.reporting.intervals", "explain.reporting.topics.measurements"),
    "explain.reporting.figures": ("explain.drawing.figures",),
    "explain.reporting.films": ("explain.reporting.topics.prediction",),
    "explain.reporting.media": ("explain.drawing.sprites",),
    "explain.reporting.rendering": ("explain.drawing.templates", "explain.drawing.numbers"),
    "explain.reporting.sequels": ("explain.reporting.reading",),
    "explain.reporting.slices": ("explain.drawing.kernels",),
    "explain.saving": ("explain.results",),
    "explain.showing": ("explain.drawing",),
    "explain.showing.paper": ("explain.drawing.notebook",),
    "explain.targets": ("explain.model.targets",),
    "explain.views": ("explain.maximization.unit_views",),
    "zoo.catalog": ("zoo.registry.catalog", "zoo.names"),
    "zoo.datasets": ("zoo.training.data",),
    "zoo.datasets.digits": ("zoo.training.data.mnist",),
    "zoo.datasets.motion": ("zoo_motion_mnist.motion",),
    "zoo.datasets.motion_names": ("zoo_motion_mnist",),
    "zoo.datasets.sequences": ("zoo_sequence_convlstm.sequences",),
    "zoo.datasets.translate_rotate": ("zoo_stdcf.translate_rotate",),
    "zoo.hookspecs": ("zoo.registry.hookspecs",),
    "zoo.loading": ("zoo.models.loading", "zoo.models.load_report", "zoo.models.meta", "zoo.registry.resolving"),
    "zoo.prediction": ("zoo.models.prediction", "zoo.models.heads"),
    "zoo.training.recipes": ("zoo.entries.recipes",),
    "zoo.verification": ("zoo.models.verification",),
}


class _Former(ModuleType):
    """A module that forwards to where its names are now."""

    def __getattr__(self, name: str) -> Any:
        import importlib

        if name.startswith("__"):
            raise AttributeError(name)
        for home in FORMER[self.__name__]:
            module = importlib.import_module(home)
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Finder:
    """Finds former modules."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Give a former module the loader below; of any other name, nothing."""
        del path, target
        return ModuleSpec(name, _Finder, is_package=True) if name in FORMER else None  # type: ignore[arg-type]  # a class serves as the loader

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        """Make the module that forwards."""
        return _Former(spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Warn whoever imports it.

        Raises:
            ModuleNotFoundError: if its names are in a plugin that is not installed.
        """
        import warnings
        from importlib.util import find_spec

        for home in FORMER[module.__name__]:
            package = home.partition(".")[0]
            if find_spec(package) is None:
                distribution = f"motion-{package.replace('_', '-')}"
                raise ModuleNotFoundError(
                    f"{module.__name__} has moved to {home}: `pip install {distribution}`", name=module.__name__
                )
        homes = " and ".join(FORMER[module.__name__])
        level = 2
        frame = sys._getframe(1)  # noqa: SLF001 - the importing line is to be named, which the import system hides
        while frame.f_back is not None and "importlib" in frame.f_code.co_filename:
            frame, level = frame.f_back, level + 1
        warnings.warn(
            f"{module.__name__} has moved; its names are in {homes} (plugins: explain.authoring)",
            DeprecationWarning,
            stacklevel=level,
        )


def install() -> None:
    """Make former paths importable."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
