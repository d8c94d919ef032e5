"""What is installed from wheels: nothing is forgotten when a plugin, a card or a template is added."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(ROOT.glob("plugins/*/pyproject.toml"))


def project(path):
    return tomllib.loads(path.read_text(encoding="utf-8"))


def test_the_extra_all_names_every_plugin_of_ours():
    named = project(ROOT / "pyproject.toml")["project"]["optional-dependencies"]["all"]
    assert {re.split("[>=]", requirement)[0] for requirement in named} == {
        project(path)["project"]["name"] for path in PLUGINS
    }


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.parent.name)
def test_a_plugin_is_a_package_of_its_own(path):
    said = project(path)["project"]
    (module,) = project(path)["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(said.get("entry-points", {"zoo.plugins": {"": module}})["zoo.plugins"].values()) == {module}
    assert (path.parent / module / "__init__.py").is_file()
    assert (path.parent / module / "py.typed").is_file()
    assert any(requirement.startswith("motion-zoo>=") for requirement in said["dependencies"])
    for name in said["license-files"]:
        assert (path.parent / name).is_file()


def test_cards_go_where_the_installed_package_looks_for_them():
    from zoo.publishing import cards

    wheel = project(ROOT / "pyproject.toml")["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["cards"] == str(cards._FOLDERS[0].relative_to(ROOT))


def test_no_file_of_a_package_is_left_out_of_its_wheel():
    """Builds leave out what git ignores."""
    folders = [ROOT / "zoo", ROOT / "explain", *(path.parent for path in PLUGINS)]
    files = [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    done = subprocess.run(["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 128:
        pytest.skip("not a checkout")
    assert done.stdout == ""


def test_every_lower_bound_is_one_that_is_tried():
    """`.ci/lowest` runs tests with the releases in constraints-lowest.txt."""
    text = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8")
    lowest = {name.lower(): version for name, version in re.findall(r"^([\w-]+)==([\d.]+)", text, re.MULTILINE)}
    for path in (ROOT / "pyproject.toml", *PLUGINS):
        for requirement in project(path)["project"]["dependencies"]:
            name, version = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement).groups()
            if not name.startswith("motion-zoo"):
                parts = version.split(".")
                assert lowest[name.lower()].split(".")[: len(parts)] == parts, f"{path.parent.name}: {requirement}"


def test_every_requirement_of_an_extra_has_a_lower_bound():
    for extra, requirements in project(ROOT / "pyproject.toml")["project"]["optional-dependencies"].items():
        for requirement in requirements:
            assert re.search(r">=\d|==\d|^motion-zoo\[", requirement), f"{extra}: {requirement}"
