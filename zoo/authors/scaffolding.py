"""A plugin to begin with: an installable package that passes `zoo check` as it is written."""

from __future__ import annotations

import keyword
import re
import sys
import tempfile
import types
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import OutputError, UsageError
from zoo.publishing import cards
from zoo.registry import catalog
from zoo.writing import temporary_prefix

if TYPE_CHECKING:
    from zoo.entries import ModelEntry

_TEMPLATES = Path(__file__).parent / "templates" / "plugin"

#: Each file of the package, and the template that it is made from.
_FILES = {
    "pyproject.toml": "pyproject.toml.jinja",
    "README.md": "README.md.jinja",
    "{package}/__init__.py": "entries.py.jinja",
    "{package}/networks.py": "networks.py.jinja",
    "{package}/training.py": "training.py.jinja",
    "{package}/py.typed": None,
    "{package}/cards/{name}.md": "card.md.jinja",
    "{package}/weights/README.md": "weights.md.jinja",
    "tests/test_conformance.py": "test_conformance.py.jinja",
}

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def new_plugin(name: str, folder: Path) -> list[Path]:
    """Write the package of a plugin, with one small model of the same name; all of it or nothing.

    Args:
        name: Of the plugin; its module becomes `zoo_NAME`, its distribution `zoo-NAME`.
        folder: Where the package goes; absent or empty.

    Returns:
        The files, in `folder`.

    Raises:
        UsageError: if the name cannot be one, or there is something in `folder`.
        OutputError: if nothing can be written there.
    """
    check_name(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty, and nothing is overwritten; give another folder with --out")
    if not folder.absolute().parent.is_dir():
        raise OutputError(f"cannot write {folder}: the folder {folder.parent} does not exist; make it first")
    try:
        with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=temporary_prefix()) as temporary:
            whole = Path(temporary) / folder.name
            _write(name, whole)
            if folder.exists():
                folder.rmdir()
            whole.rename(folder)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}") from error
    return sorted(path for path in folder.rglob("*") if path.is_file())


def check_name(name: str) -> None:
    """Raise UsageError where a plugin cannot have this name; one that could be is offered."""
    if _NAME.fullmatch(name) and not keyword.iskeyword(name):
        try:
            catalog.check_name("model", name)  # its model has the same name
        except ValueError as error:
            raise UsageError(str(error)) from error
        return
    near = "_".join(re.findall(r"[a-z0-9]+", name.lower())).lstrip("0123456789_")
    offered = near if _NAME.fullmatch(near) and not keyword.iskeyword(near) else "my_models"
    raise UsageError(
        f"{name!r} cannot be the name of a plugin: expected letters a-z, digits and single _, a letter first, "
        f"such as {offered}"
    )


def _write(name: str, folder: Path) -> None:
    from importlib import metadata

    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Python and Markdown, and the only value is a checked name
    )
    package = f"zoo_{name}"
    values = {
        "name": name,
        "package": package,
        "distribution": package.replace("_", "-"),
        "zoo_version": metadata.version("motion-zoo"),
    }
    for place, template in _FILES.items():
        path = folder / place.format(**values)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.get_template(template).render(values) if template else "", encoding="utf-8")
    card = folder / package / "cards" / f"{name}.md"
    entry = _entry(folder / package / "__init__.py", package)
    card.write_text(cards.compose(entry, card.read_text(encoding="utf-8")), encoding="utf-8")


def _entry(path: Path, package: str) -> ModelEntry:
    """Return the entry of the module just written; neither it nor its bytecode is left anywhere."""
    module = types.ModuleType(package)
    module.__path__ = [str(path.parent)]
    installed = sys.modules.get(package)
    sys.modules[package] = module  # `bundled_weights` finds the package by its name
    try:
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), vars(module))  # noqa: S102 - our own template
        (entry,) = module.zoo_models()
    finally:
        del sys.modules[package]
        if installed is not None:
            sys.modules[package] = installed
    return entry  # type: ignore[no-any-return]  # of a module
