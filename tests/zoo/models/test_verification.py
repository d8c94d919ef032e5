"""`zoo verify` passes what is right and names what is not."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

import zoo
from zoo.errors import NotFiniteWarning, UsageError
from zoo.models.verification import verify_all
from zoo.weights import digests


@pytest.fixture
def verified(installed, tiny, monkeypatch, tmp_path):
    """Install `tiny` with weights, golden tensors and a declared number of parameters, then verify it."""

    def make(parameters=69, golden_change=0.0, damage=False, bias=0.0):
        installed.add("bare", tiny)
        installed.use(monkeypatch)
        model = zoo.load("tiny", weights=None)
        torch.nn.init.constant_(model[5].bias, bias)
        path, golden = tmp_path / "w.safetensors", tmp_path / "golden.safetensors"
        save_file(model.state_dict(), path)
        batch = torch.rand(1, 1, 4, 8, 8)
        with torch.no_grad():
            save_file({"input": batch, "shape": model(batch) + golden_change}, golden)
        said = (
            f"WeightsEntry(tag='a', source={str(path)!r}, bytes={path.stat().st_size}, "
            f"sha256={digests.sha256_of(path)!r}, golden={str(golden)!r})"
        )
        installed.add("full", tiny.replace("entry()", f"entry('sure', parameters={parameters}, weights=({said},))"))
        installed.use(monkeypatch)
        if damage:
            status = path.stat()
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(content)
            import os

            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # remembered checksums cannot tell
        return zoo.verify("sure")

    return make


def failed(verification):
    return [check.name for check in verification.checks if not check.passed]


def test_right_weights_pass_every_check(verified):
    result = verified()
    assert result.passed
    assert [check.name for check in result.checks] == ["sha256", "bytes", "parameters", "finite", "golden shape"]


def test_each_fault_fails_its_own_check(verified):
    assert failed(verified(golden_change=2e-4)) == ["golden shape"]
    assert failed(verified(parameters=68)) == ["parameters"]


def test_golden_tensors_that_cannot_be_compared_fail_their_check(verified, tmp_path):
    verified()
    golden = tmp_path / "golden.safetensors"
    batch = torch.rand(1, 1, 4, 8, 8)
    for tensors, name in [
        ({"input": batch, "shape": torch.ones(1, 9)}, "golden shape"),
        ({"input": batch, "colour": torch.ones(1, 3)}, "golden colour"),
        ({"shape": torch.ones(1, 3)}, "load"),
        ({"input": batch}, "load"),
    ]:
        save_file(tensors, golden)
        assert failed(zoo.verify("sure")) == [name]
    golden.write_bytes(b"cut")
    assert failed(zoo.verify("sure")) == ["load"]


def test_two_plugins_with_one_name_are_verified_apart(verified, installed, tiny, monkeypatch):
    verified()
    installed.add("twin", tiny.replace("entry()", "entry('sure')"))
    installed.use(monkeypatch)
    assert zoo.verify("dist-full:sure").passed
    assert [result.passed for result in verify_all("sure.*")] == [True]
    with pytest.raises(UsageError, match="no weights match"):
        verify_all("nothing*")


def test_a_file_changed_behind_the_memory_of_checksums_is_found(verified):
    assert "sha256" in failed(verified(damage=True))


def test_weights_that_are_not_finite_fail(verified):
    with pytest.warns(NotFiniteWarning, match="sure"):
        assert failed(verified(bias=float("nan"))) == ["finite", "golden shape"]
