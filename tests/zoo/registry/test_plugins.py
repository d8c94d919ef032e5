"""Plugins are found one by one, and a broken one changes nobody else's result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from zoo import load
from zoo.entries import ModelEntry
from zoo.errors import PluginError, PluginWarning
from zoo.registry import plugins

#: Code of an exception whose message cannot be read, and of a class whose objects fail where they are looked at.
UNREADABLE = """
class Unreadable(Exception):
    def __str__(self):
        raise SystemExit
    __repr__ = __str__
class Claims:
    @property
    def __class__(self):
        raise KeyboardInterrupt
"""


def names(registry):
    return [item.name for _, item in registry.collect("zoo_models", ModelEntry)]


def status(registry):
    return {plugin.name: plugin.status for plugin in registry.plugins}


def test_a_working_plugin_gives_its_models_and_names_its_hooks(installed, tiny):
    installed.add("good", tiny)
    registry = installed.registry()
    assert names(registry) == ["tiny"]
    assert registry.plugins[0].hooks == ["zoo_models"]
    assert registry.plugins[0].key == "dist-good:good"


@pytest.mark.filterwarnings("ignore:sys.meta_path is empty:ImportWarning")
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("def (", "SyntaxError"),
        ("from zoo import hookimpl\n@hookimpl\ndef zoo_modells(): return []", "unknown hook 'zoo_modells'"),
        ("from zoo import hookimpl\n@hookimpl\ndef zoo_models(color): return []", "color"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("class Skipped(BaseException): pass\nraise Skipped('no GPU')", "Skipped: no GPU"),
        (f"{UNREADABLE}raise Unreadable", "Unreadable"),
        ("import sys\nsys.meta_path.clear()\nimport nothing_finds_this", "ModuleNotFoundError"),
    ],
)
def test_a_plugin_that_cannot_be_registered_is_reported_once_and_left_out(installed, tiny, code, reason):
    installed.add("bad", code)
    installed.add("good", tiny)
    with pytest.warns(PluginWarning) as caught:
        registry = installed.registry()
        assert names(registry) == ["tiny"]
        assert names(registry) == ["tiny"]
    said = [str(one.message) for one in caught if one.category is PluginWarning]  # Python has a word, too
    assert len(said) == 1
    assert "dist-bad" in said[0]
    assert status(registry) == {"bad": "failed", "good": "ready"}
    assert reason in registry.plugins[0].reason


@pytest.mark.parametrize(
    "body",
    [
        "raise RuntimeError('no')",
        "return [1, 2]",
        "return 7",
        "raise SystemExit",
        "pass",
        "return 'ab'",
        "return {}",
        "yield 1",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
        "raise Unreadable",
        "return [Unreadable()]",
        "return [Claims()]",
    ],
)
def test_a_hook_that_raises_or_returns_junk_fails_alone(installed, tiny, body):
    installed.add("bad", f"{UNREADABLE}from zoo import hookimpl\n@hookimpl\ndef zoo_models():\n    {body}")
    installed.add("good", tiny)
    registry = installed.registry()
    with pytest.warns(PluginWarning, match="dist-bad") as caught:
        assert names(registry) == ["tiny"]
        assert names(registry) == ["tiny"]
    assert len(caught) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"[zoo.plugins]\nno value here\n",
        b"[zoo.plugins]\n\xe9 = x\n",
        b"[zoo.plugins]\nx = 1 2 3\n",
        b"[zoo.plugins]\nx =\n",
        "[zoo.plugins]\nx = y\n".encode("utf-16"),
    ],
)
def test_entry_points_that_cannot_be_read_leave_the_others(installed, tiny, content):
    installed.add("good", tiny)
    broken = installed.folder / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_bytes(content)
    with pytest.warns(PluginWarning, match="broken"):
        assert ("dist-good", "1.0") in [found[:2] for found in plugins.installed()]


def test_a_ctrl_c_while_plugins_are_imported_interrupts(installed, tiny):
    installed.add("slow", "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException: pass")
    with pytest.raises(KeyboardInterrupt):
        installed.registry()


@pytest.mark.parametrize(
    "code",
    [
        "import os, sys, warnings; os.chdir('/'); sys.setrecursionlimit(150); warnings.simplefilter('error')",
        "import os, sys; os.environ.clear(); sys.path.clear(); sys.meta_path.clear(); sys.stderr.close()",
    ],
)
@pytest.mark.parametrize("where", ["import", "hook"])
def test_what_a_plugin_changes_in_the_process_changes_no_other_plugin(installed, tiny, tmp_path, code, where):
    hook = f"from zoo import hookimpl\n@hookimpl\ndef zoo_models():\n    {code}; return []"
    installed.add("a_first", code if where == "import" else hook)
    installed.add("bad", "raise ValueError")
    installed.add("good", tiny)
    code = "import os; from zoo import list_models; print(list_models(), os.getcwd(), os.environ['HERE'])"
    environment = {**os.environ, "PYTHONPATH": str(installed.folder), "HERE": "here"}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "'tiny'" in done.stdout
    assert f"{tmp_path} here" in done.stdout
    failed = [line for line in done.stderr.splitlines() if "failed at" in line]
    assert len(failed) == 1
    assert "dist-bad" in failed[0]


@pytest.mark.parametrize(
    "keys",
    [
        [("my-dist", "one"), ("My_Dist", "one")],
        [("my-dist", "one"), ("my.dist.renamed", "one")],
        [("my-dist", "one"), ("my-dist", "two")],
    ],
)
def test_one_module_under_several_names_is_one_plugin(installed, tiny, keys):
    installed.add("one", tiny)
    installed.entry_points = [(dist, "1.0", plugins.EntryPoint(name, "one", plugins.GROUP)) for dist, name in keys]
    registry = installed.registry()
    assert names(registry) == ["tiny"]
    assert len(registry.plugins) == 1
    for dist, name in keys:
        assert status(installed.registry({f"{dist}:{name}"})) == {"one": "disabled"}


@pytest.mark.parametrize("again", ["import one; sys.modules['two'] = one", "from one import zoo_models"])
def test_a_renamed_module_that_gives_the_old_one_is_one_plugin(installed, tiny, again):
    installed.add("one", tiny)
    installed.add("two", f"import sys; {again}")
    registry = installed.registry()
    assert names(registry) == ["tiny"]
    (plugin,) = registry.plugins
    assert plugin.also == ["dist-two:two"]
    assert plugin.status == "ready"


def test_two_plugins_whose_names_differ_by_spelling_alone_are_both_there(installed, tiny):
    installed.add("a_b", tiny, distribution="one", module="first")
    installed.add("a-b", tiny, distribution="one", module="second")
    assert [plugin.name for plugin in installed.registry().plugins] == ["a_b", "a-b"]


def _metadata(folder, name, version, points, files=None):
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_bytes(files or f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode())
    (metadata / "entry_points.txt").write_bytes(points)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_files_that_begin_with_a_byte_order_mark_are_read(installed, mark):
    about = mark + b"Metadata-Version: 2.1\nName: marked\nVersion: 1.0\n"
    _metadata(installed.folder, "marked", "1.0", mark + b"[zoo.plugins]\nx = y\n", about)
    assert ("marked", "1.0", "x") in [(dist, version, point.name) for dist, version, point in plugins.installed()]


@pytest.mark.parametrize(
    ("version", "other"), [("1.0", "2.0"), ("1.9", "1.10"), ("1.0rc1", "1.0"), ("1.0", "1.0.post1")]
)
def test_of_two_versions_in_one_folder_the_higher_is_taken_and_the_other_reported(installed, version, other):
    for one in (version, other):
        _metadata(installed.folder, "evil", one, f"[zoo.plugins]\nx = module_{one.replace('.', '')}\n".encode())
    with pytest.warns(PluginWarning, match=f"evil.*{other}.*{version}") as caught:
        found = plugins.installed()
    assert len(caught) == 1
    assert [item[1] for item in found if item[0] == "evil"] == [other]


def test_of_two_versions_in_two_folders_the_first_on_the_path_is_taken(installed, tmp_path, monkeypatch):
    _metadata(tmp_path / "first", "evil", "1.0", b"[zoo.plugins]\nx = y\n")
    _metadata(installed.folder, "Evil", "2.0", b"[zoo.plugins]\nx = y\n")
    monkeypatch.syspath_prepend(str(tmp_path / "first"))
    with pytest.warns(PluginWarning, match=r"1\.0.*is used.*2\.0.*is not"):
        found = plugins.installed()
    assert [item[1] for item in found if item[0].lower() == "evil"] == ["1.0"]


def test_one_version_found_twice_is_no_matter(installed, tmp_path, monkeypatch):
    for folder in (tmp_path / "first", installed.folder):
        _metadata(folder, "good", "1.0", b"[zoo.plugins]\nx = y\n")
    monkeypatch.syspath_prepend(str(tmp_path / "first"))
    assert [item[:2] for item in plugins.installed() if item[0] == "good"] == [("good", "1.0")]


def test_two_distributions_may_use_one_entry_point_name(installed, tiny):
    installed.add("same", tiny, distribution="one", module="first")
    installed.add("same", tiny, distribution="two", module="second")
    assert [plugin.key for plugin in installed.registry().plugins] == ["one:same", "two:same"]
    assert names(installed.registry()) == ["tiny", "tiny"]


def test_entry_points_are_those_that_importlib_finds(installed, tiny):
    installed.add("good", tiny)
    (installed.folder / "more-2.0.egg-info").mkdir()
    (installed.folder / "more-2.0.egg-info" / "PKG-INFO").write_text("Name: More\nVersion: 2.0\n\nName: no\n")
    (installed.folder / "more-2.0.egg-info" / "entry_points.txt").write_text(
        "[other]\na = b\n\n[zoo.plugins]\n# a comment\nx.y = good:zoo_models [extra]\n[more]\nc = d\n"
    )
    found = {(dist, version, point.name) for dist, version, point in plugins.installed()}
    expected = {
        (point.dist.name, point.dist.version, point.name) for point in metadata.entry_points(group="zoo.plugins")
    }
    assert found == expected
    assert ("More", "2.0", "x.y") in found
    (point,) = [point for _, _, point in plugins.installed() if point.name == "x.y"]
    assert point.load().__name__ == "zoo_models"


def test_plugins_in_an_archive_are_found(tmp_path, monkeypatch, tiny):
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped.py", dedent(tiny))
        file.writestr("zipped-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: zipped\nVersion: 1.0\n")
        file.writestr("zipped-1.0.dist-info/entry_points.txt", "[zoo.plugins]\nzipped = zipped\n")
    before = {dist for dist, _, _ in plugins.installed()}
    monkeypatch.syspath_prepend(str(archive))
    assert {dist for dist, _, _ in plugins.installed()} == before | {"zipped"}


def test_a_plugin_for_another_interface_is_left_out_with_what_to_do(installed, tiny):
    installed.add("new", "zoo_interface = 2\n" + dedent(tiny))
    installed.add("odd", "zoo_interface = 'one'\n" + dedent(tiny))
    installed.add("good", "zoo_interface = 1\n" + dedent(tiny))
    with pytest.warns(PluginWarning):
        registry = installed.registry()
    assert status(registry) == {"new": "failed", "odd": "failed", "good": "ready"}
    assert "zoo_interface is 2, and this motion-zoo offers version 1" in registry.plugins[0].reason
    assert "install a release of dist-new" in registry.plugins[0].reason
    assert names(registry) == ["tiny"]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"heavy.py": "import math\nimport torch\n"}, "heavy.py:2"),
        ({"heavy.py": "import math\nimport other\n", "other.py": "import torch\n"}, "heavy.py:2"),
        ({"heavy.py": "from zoo import load\n"}, "heavy.py:1"),
        ({"heavy/__init__.py": "import heavy.inner\n", "heavy/inner.py": "\n\nimport torch\n"}, "heavy/inner.py:3"),
    ],
)
def test_a_plugin_that_imports_torch_is_named_with_the_line_to_blame(installed, tiny, files, line):
    installed.add("light", tiny)
    installed.add("heavy", "")
    (installed.folder / "heavy.py").unlink()
    (installed.folder / "heavy").mkdir()
    for name, code in files.items():
        (installed.folder / name).write_text(code)
    code = (
        "import json, sys; from zoo.registry.plugins import registry;"
        "print(json.dumps({p.name: [p.status, p.slow] for p in registry().plugins}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed.folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["light"] == ["ready", ""]
    assert found["heavy"][0] == "ready"
    assert found["heavy"][1].startswith(f"imports torch at {installed.folder}/{line} (")


@pytest.mark.parametrize("clock", ["SLOW", "SLOW_WALL"])
def test_a_plugin_that_takes_long_to_import_is_named(installed, tiny, monkeypatch, clock):
    monkeypatch.setattr(plugins, "SLOW", 1e9)
    monkeypatch.setattr(plugins, "SLOW_WALL", 1e9)
    installed.add("good", tiny)
    assert installed.registry().plugins[0].slow == ""
    monkeypatch.setattr(plugins, clock, -1.0)
    assert installed.registry().plugins[0].slow.startswith("importing good takes ")


def test_a_plugin_that_waits_is_slow_in_import_and_in_its_hook(installed, tiny):
    installed.add("import_waits", "import time; time.sleep(1.05)")
    hook = "def zoo_models(): import time; time.sleep(1.05); return []"
    installed.add("hook_waits", f"from zoo import hookimpl\n@hookimpl\n{hook}")
    registry = installed.registry()
    names(registry)
    slow = {plugin.name: plugin.slow for plugin in registry.plugins}
    assert slow["import_waits"].startswith("importing import_waits takes ")
    assert slow["hook_waits"].startswith("hook zoo_models takes ")


@pytest.mark.parametrize("name", ["good", "Good", "dist-good", "DIST_good", "dist-good:good", "dist.good:good"])
def test_a_plugin_is_switched_off_by_each_of_its_names(installed, tiny, name):
    installed.add("good", tiny)
    registry = installed.registry({name})
    assert status(registry) == {"good": "disabled"}
    assert names(registry) == []


def test_hooks_receive_only_the_arguments_they_ask_for(installed):
    installed.add("some", "from zoo import hookimpl\n@hookimpl\ndef explain_sections(): return ['a section']")
    assert [item for _, item in installed.registry().collect("explain_sections", str, context=1)] == ["a section"]


def test_resolve_gives_the_function_or_says_why_not():
    assert plugins.resolve("os.path:join") is __import__("os").path.join
    for reference in ("os.path", "os.path:joint", "no_such_module:f"):
        with pytest.raises(PluginError, match=reference.split(":")[0]):
            plugins.resolve(reference)
    with pytest.raises(PluginError, match="not callable"):
        plugins.resolve("os:sep")


@pytest.mark.parametrize(
    "code",
    [
        "assert False, 'MMCV==2 is incompatible'",
        "raise OSError('libcudart.so.10.1: cannot open shared object file')",
        "raise RuntimeError('x')",
        "raise ValueError('x')",
        "raise AttributeError('x')",
        "raise KeyError('x')",
        "raise SystemExit(3)",
        "raise KeyboardInterrupt",
        "def (",
        "import mmcv_is_not_here",
        f"{UNREADABLE}raise Unreadable",
    ],
)
def test_a_module_of_a_plugin_that_does_not_import_is_told_with_the_plugin(installed, tiny, monkeypatch, code):
    installed.add("good", tiny.replace("{__name__}:build", "late_networks:build"))
    (installed.folder / "late_networks.py").write_text(code)
    installed.use(monkeypatch)
    with pytest.raises(
        PluginError, match=r"'late_networks:build' of plugin 'good' \(dist-good 1\.0\) cannot be imported"
    ):
        load("tiny", weights=None)


def test_what_a_network_module_changes_in_the_process_is_put_back(installed, tiny, monkeypatch, tmp_path):
    installed.add("good", tiny.replace("{__name__}:build", "late_networks:build"))
    code = f"import os, torch\nos.chdir('/')\ntorch.set_default_dtype(torch.float64)\n{dedent(tiny)}"
    (installed.folder / "late_networks.py").write_text(code)
    installed.use(monkeypatch)
    monkeypatch.chdir(tmp_path)
    assert next(load("tiny", weights=None).parameters()).dtype == torch.float32
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt", "Unreadable"])
def test_a_builder_that_ends_the_process_is_told(installed, tiny, monkeypatch, error):
    installed.add("good", f"{dedent(tiny)}\n{UNREADABLE}\ndef build():\n    raise {error}")
    installed.use(monkeypatch)
    with pytest.raises(PluginError, match="builder of tiny"):
        load("tiny", weights=None)


def test_the_plugin_of_a_reference_is_the_one_that_gave_it(installed, tiny):
    installed.add("a_giver", tiny.replace("{__name__}:build", "elsewhere.networks:build"))
    installed.add("elsewhere", "")
    registry = installed.registry()
    assert registry.giver("elsewhere.networks:build").name == "elsewhere"
    names(registry)
    assert registry.giver("elsewhere.networks:build").name == "a_giver"
    assert registry.giver("elsewhere:f").name == "elsewhere"
    assert registry.giver("os.path:join") is None
