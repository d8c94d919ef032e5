"""A stranger's whole way with installed wheels: write a plugin, build it, publish weights, load and explain them.

It wants an environment without this checkout that holds motion-zoo[all] as wheels, and installs a plugin there:
`.ci/wheels` makes one, and gives its `bin` folder as ZOO_TEST_INSTALLED.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

BIN = os.environ.get("ZOO_TEST_INSTALLED", "")

pytestmark = pytest.mark.skipif(not BIN, reason="needs an environment of wheels (ZOO_TEST_INSTALLED; see .ci/wheels)")

#: A few steps on clips of noise whose brighter half is on the left or on the right.
TRAIN = """
    import torch, zoo
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    model = zoo.load("my_models", weights=None, seed=3).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(5):
        clips, side = torch.rand(4, 3, 16, 64, 64), torch.tensor([0, 1, 0, 1])
        clips[::2, ..., :32] += 1
        clips[1::2, ..., 32:] += 1
        loss = torch.nn.functional.cross_entropy(model(clips), side)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_file(model.state_dict(), "my_models.sides.safetensors")
    torch.save(model.state_dict(), "my_models.sides.pth")
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command of that environment in an empty folder; it must end with `status` and say `said` on stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("PYTHONPATH", "ZOO_DISABLE_PLUGINS", "ZOO_DATA"):
        monkeypatch.delenv(name, raising=False)

    def call(command, *arguments, status=0, said="", **environment):
        done = subprocess.run(
            [Path(BIN, command), *map(str, arguments)],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, f"{command} {arguments}\n{done.stdout}\n{done.stderr}"
        assert re.search(said, done.stderr), done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    return call


@pytest.fixture
def predicted(run):
    """Probabilities that a model gives the classes of a clip."""

    def ask(*arguments, **environment):
        asked = run("zoo", "predict", *arguments, "--json", "--device", "cpu", **environment)
        top = json.loads(asked)["prediction"]["output"]["top"]
        return {one["label"]: one["probability"] for one in top}

    return ask


def installed(run, folder):
    """Build a wheel, install it and it alone, and forget where it came from."""
    run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", f"./{folder}")
    (wheel,) = Path("dist").glob("*.whl")
    run("pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel)
    wheel.unlink()


def test_a_new_plugin_is_built_installed_published_loaded_and_explained(run, predicted, hub_server, tmp_path):
    (token,) = hub_server.tokens
    sample = "sample:blinking_mnist"
    run("zoo", "new-plugin", "my_models", said="next: pip install --editable my_models && zoo check my_models")
    run("zoo", "new-plugin", "my_models", status=2, said="not empty, and nothing is overwritten")
    installed(run, "my_models")
    run("zoo", "check", "my_models", said=r"\d+ passed, 0 failed")
    run("zoo", "load", "my_models", status=2, said="no trained weights.*--weights none")

    run("python", "-c", dedent(TRAIN))
    weights = "my_models.sides.safetensors"
    expected = pytest.approx(predicted("my_models", sample, "--weights", weights), rel=1e-5)
    assert expected != dict.fromkeys(["left", "right"], 0.5)
    for asked in (["my_models.sides.pth", "me/sides"], ["my_models.sides.pth", "me/sides", "--dry-run"]):
        run("zoo", "push", *asked, status=1, said="pickle", HF_TOKEN=token)
    shown = run("zoo", "push", weights, "me/sides", "--dry-run")
    assert "would go to me/sides (private); nothing was sent" in shown
    assert not hub_server.asked
    run("zoo", "push", weights, "me/sides", status=1, said="hf auth login.*--token, HF_TOKEN")
    shown = run("zoo", "push", weights, "me/sides", HF_TOKEN=token)
    assert hub_server.repositories["me/sides"].private
    (name,) = re.findall(r"zoo load (hub:me/sides@[0-9a-f]{40})$", shown, flags=re.MULTILINE)
    (entry,) = re.findall(r"zoo\.WeightsEntry\(.*\)", shown)

    fresh = {"HF_HOME": str(tmp_path / "another"), "XDG_CACHE_HOME": str(tmp_path / "empty")}
    run("zoo", "load", name, status=1, said="does not exist.*or is private.*HF_TOKEN", **fresh)
    run("zoo", "load", name.partition("@")[0], status=2, said="is not pinned", **fresh)
    assert predicted(name, sample, HF_TOKEN=token, **fresh) == expected
    asked = len(hub_server.asked)
    assert json.loads(run("zoo", "load", name, "--offline", "--json", **fresh))["tag"] == "sides"
    asked_for = ("--method", "saliency", "--section", "prediction", "--section", "attributions")
    run("explain", "report", name, sample, *asked_for, "--out", "by_name", **fresh)
    assert len(hub_server.asked) == asked

    # The author pins the weights in the entry; users who install it get them from the Hub.
    entries, bundled = Path("my_models/zoo_my_models/__init__.py"), r"weights=bundled_weights\(.*"
    pinned, count = re.subn(bundled, lambda _: f"weights=({entry},),", entries.read_text())
    assert count == 1
    entries.write_text(pinned.replace("from zoo import", "import zoo\nfrom zoo import"))
    run("zoo", "card", "my_models", "--check", status=1, PYTHONPATH="my_models")
    run("zoo", "card", "my_models", "--write", PYTHONPATH="my_models")
    installed(run, "my_models")
    user = {"HF_HOME": str(tmp_path / "users"), "XDG_CACHE_HOME": str(tmp_path / "users")}
    assert "sides (download" in run("zoo", "list", "my_models", **user)
    run("zoo", "load", "my_models", "--offline", status=1, said="not on this machine", **user)
    run("zoo", "download", "my_models", HF_TOKEN=token, **user)
    run("zoo", "check", "my_models", said=r"\d+ passed, 0 failed", **user)
    assert predicted("my_models", sample, **user) == expected
    run(
        "explain", "report", "my_models", sample, "--method", "saliency", "--unit-steps", 8, "--out", "by_entry", **user
    )
    one, other = (json.loads(Path(place, "report.json").read_text()) for place in ("by_name", "by_entry"))
    assert one["run"]["weights"]["sha256"] == other["run"]["weights"]["sha256"]
    assert one["sections"]["prediction"]["target"] == other["sections"]["prediction"]["target"]
    (one,), (other,) = (found["sections"]["attributions"]["methods"] for found in (one, other))
    assert one["time"] == pytest.approx(other["time"], rel=1e-4)
    assert Path("by_entry/report.html").stat().st_size > 10_000

    run("pip", "uninstall", "--quiet", "--yes", "zoo-my-models")
    run("zoo", "load", name, "--offline", status=2, said="pip install zoo-my-models, if you trust it", **fresh)
