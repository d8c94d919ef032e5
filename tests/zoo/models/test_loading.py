"""Loading is strict, checked, reported, and leaves the process as it was."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.errors import (
    DeviceError,
    MemoryLimitError,
    NotFiniteWarning,
    PluginError,
    UnknownNameError,
    UsageError,
    WeightsError,
)
from zoo.models import loading, meta
from zoo.weights import digests
from zoo.weights import files as weights_files


@pytest.fixture
def trained(installed, tiny, monkeypatch, tmp_path):
    """The plugin `tiny` with a weights file, and the tensors in it."""
    installed.add("plain", tiny)
    installed.use(monkeypatch)
    torch.manual_seed(7)
    tensors = {
        name: torch.randn_like(value) if value.is_floating_point() else value
        for name, value in zoo.load("tiny", weights=None).state_dict().items()
    }
    path = tmp_path / "tiny.safetensors"
    save_file(tensors, path)
    installed.add(
        "full",
        tiny.replace(
            "return [entry()]",
            f"return [entry('loaded', weights=(WeightsEntry(tag='a', source={str(path)!r}, "
            f"bytes={path.stat().st_size}, sha256={digests.sha256_of(path)!r}),)), "
            f"entry('stubborn', arguments={{'meta': False}})]",
        ),
    )
    installed.use(monkeypatch)
    return path, tensors


def test_weights_are_assigned_exactly_and_reported(trained):
    path, tensors = trained
    model = zoo.load("loaded")
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in tensors.items())
    assert not model.training
    report = model.zoo_load_report
    assert (report.name, report.tag, report.file) == ("loaded.a", "a", str(path))
    assert (report.build, report.taken, report.initialised, report.parameters) == ("meta", len(tensors), 0, 69)
    assert (report.adapt, report.adapted, report.left, report.initialised_names) == (None, 0, 0, ())
    assert model.zoo_entry.weights == (model.zoo_weights,)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_mapped_and_read_weights_are_equal_and_training_does_not_write_the_file(trained):
    path, _ = trained
    before = path.read_bytes()
    mapped, read = zoo.load("loaded"), zoo.load("loaded", mmap=False)
    assert all(torch.equal(a, b) for a, b in zip(mapped.parameters(), read.parameters(), strict=True))
    with torch.no_grad():
        for parameter in mapped.parameters():
            parameter.add_(1)
    assert path.read_bytes() == before


def test_a_builder_that_cannot_run_on_meta_is_built_as_usual_and_the_reason_given(trained):
    path, tensors = trained
    model = zoo.load("stubborn", weights=str(path))
    assert model.zoo_load_report.build == "ordinary"
    assert "meta" in model.zoo_load_report.build_reason
    assert torch.equal(model[0].weight, tensors["0.weight"])


COMPUTED = """
    def computed(kind):
        import torch
        from torch import nn

        class Computed(nn.Linear):
            def __init__(self):
                super().__init__(2, 2)
                if kind == "buffer":
                    self.register_buffer("mask", (self.weight > 0).float(), persistent=False)
                else:
                    self.mask = torch.ones_like(self.weight)

            def forward(self, x):
                return nn.functional.linear(x, self.weight * self.mask, self.bias)

        return Computed()

    @hookimpl
    def zoo_models():
        builder = f"{__name__}:computed"
        return [entry(kind, builder=builder, arguments={"kind": kind}) for kind in ("buffer", "attribute")]
"""


@pytest.mark.parametrize("kind", ["buffer", "attribute"])
def test_what_a_builder_computes_from_parameters_has_values(installed, tiny, monkeypatch, tmp_path, kind):
    installed.add("computing", tiny + COMPUTED)
    installed.use(monkeypatch)
    path = tmp_path / "w.safetensors"
    save_file({"weight": torch.eye(2), "bias": torch.zeros(2)}, path)
    model = zoo.load(kind, weights=path)
    assert model(torch.ones(1, 2)).shape == (1, 2)
    assert model.zoo_load_report.build == "ordinary"
    assert "mask" in model.zoo_load_report.build_reason


def test_random_initialisation_is_drawn_from_the_seed_and_leaves_the_global_state(trained):
    state = torch.get_rng_state()
    same = [zoo.load("tiny", weights=None, seed=3)[0].weight for _ in range(2)]
    other = zoo.load("tiny", weights=None, seed=4)[0].weight
    assert torch.equal(*same)
    assert not torch.equal(same[0], other)
    zoo.load("loaded")
    assert torch.equal(torch.get_rng_state(), state)
    report = zoo.load("tiny", weights=None).zoo_load_report
    assert (report.taken, report.initialised, len(report.initialised_names)) == (0, 9, 9)


def test_building_elsewhere_meanwhile_is_not_on_meta():
    import threading

    made = []
    with meta.parameters_on_meta():
        thread = threading.Thread(target=lambda: made.append(torch.nn.Linear(2, 2)))
        thread.start()
        thread.join()
        assert torch.nn.Linear(2, 2).weight.is_meta
        assert not torch.nn.BatchNorm1d(2).running_mean.is_meta
    assert not made[0].weight.is_meta
    assert not torch.nn.Linear(2, 2).weight.is_meta


def test_building_on_meta_still_fills_what_is_not_there():
    with meta.parameters_on_meta():
        layer = torch.nn.Linear(2, 2)
        assert torch.nn.init.normal_(layer.weight) is layer.weight
        assert torch.nn.init.constant_(torch.empty(3), 2).tolist() == [2, 2, 2]


def test_a_type_is_taken_as_asked(trained):
    assert zoo.load("loaded", dtype="bfloat16")[0].weight.dtype == torch.bfloat16
    assert zoo.load("loaded", dtype=torch.float64).zoo_load_report.dtype == "float64"
    for wrong in ("int32", "flaot32", torch.int8):
        with pytest.raises(UsageError, match="floating-point"):
            zoo.load("loaded", dtype=wrong)


def test_a_file_in_another_type_is_converted_and_counted(trained, tmp_path):
    _, tensors = trained
    path = tmp_path / "half.safetensors"
    save_file({n: t.to(torch.bfloat16) if t.is_floating_point() else t for n, t in tensors.items()}, path)
    model = zoo.load("tiny", weights=str(path))
    assert model[0].weight.dtype == torch.float32
    assert model.zoo_load_report.converted == len(tensors) - 1  # all but the batch counter


def test_bfloat16_in_a_file_stays_what_it_is_where_it_is_asked_for(trained, tmp_path, monkeypatch):
    path = tmp_path / "half.safetensors"
    halves = {n: t.to(torch.bfloat16) if t.is_floating_point() else t for n, t in trained[1].items()}
    save_file(halves, path)
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "to", lambda tensor, *_, **__: pytest.fail("a tensor was converted"))
        patch.setattr(torch.nn.Module, "to", lambda module, **_: module)
        patch.setattr(meta, "meta_build", lambda entry: (meta.build(entry), ""))
        model = zoo.load("tiny", weights=path, dtype="bfloat16")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in halves.items())
    assert model.zoo_load_report.converted == 0


@pytest.fixture
def shards(trained, tmp_path):
    """The index of two shards that hold what the file of `trained` holds."""
    tensors = trained[1]
    folder = tmp_path / "shards"
    folder.mkdir()
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    placed = {name: names[name.startswith("5")] for name in tensors}
    for shard in names:
        save_file({name: tensors[name] for name, where in placed.items() if where == shard}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return index


@pytest.mark.parametrize("mmap", [True, False])
def test_shards_are_one_file(trained, shards, mmap):
    model = zoo.load("tiny", weights=shards, mmap=mmap)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in trained[1].items())
    report = model.zoo_load_report
    assert report.bytes == sum(file.stat().st_size for file in shards.parent.iterdir())
    assert (report.tag, report.file) == ("model", str(shards))
    lines = subprocess.run(["sha256sum", *sorted(p.name for p in shards.parent.iterdir() if p != shards)],
                           cwd=shards.parent, capture_output=True, check=True).stdout  # fmt: skip
    first = f"{hashlib.sha256(shards.read_bytes()).hexdigest()}  {shards.name}\n".encode()
    assert report.sha256 == hashlib.sha256(first + lines).hexdigest()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda index: index.with_name("model-00002-of-00002.safetensors").unlink(), "shard model-00002.* is missing"),
        (lambda index: index.write_text("{"), "no index of safetensors files"),
        (lambda index: index.write_text(json.dumps({"weight_map": {}})), "names no tensors"),
        (lambda index: os.truncate(index, 2**24 + 1), "it is longer than 16,777,216 bytes"),
        (lambda index: index.write_text(json.dumps({"weight_map": {"a": "../../etc/a.safetensors"}})), "no name of a"),
        (lambda index: index.write_text(json.dumps({"weight_map": {"a": "weights.bin"}})), "no name of a safetensors"),
        (
            lambda index: index.write_text(index.read_text().replace('"5.bias"', '"5.other"')),
            "does not hold the tensors that .* places there: 5.bias, 5.other",
        ),
    ],
)
def test_damaged_shards_are_told(trained, shards, damage, said):
    damage(shards)
    with pytest.raises(WeightsError, match=said):
        zoo.load("tiny", weights=shards)


def test_weights_to_inflate_may_be_named_as_the_catalogue_does(flat, installed, tiny, monkeypatch):
    path, _ = flat
    fields = f"bytes={path.stat().st_size}, sha256={digests.sha256_of(path)!r}"
    listed = f"entry('flat', weights=(WeightsEntry(tag='b', source={str(path)!r}, {fields}),)), entry('bare')"
    installed.add("flats", tiny.replace("entry()", listed))
    installed.use(monkeypatch)
    by_name, by_file = (zoo.load("tiny", weights=one, adapt="inflate") for one in ("flat.b", path))
    assert all(torch.equal(a, b) for a, b in zip(by_name.parameters(), by_file.parameters(), strict=True))
    assert by_name.zoo_load_report.tag == "flat.b (inflated)"
    with pytest.raises(UsageError, match="bare has no trained weights to adapt"):
        zoo.load("tiny", weights="bare", adapt="inflate")
    with pytest.raises(UnknownNameError):
        zoo.load("tiny", weights="flat.b")


def test_whole_numbers_are_no_weights(trained, tmp_path):
    path = tmp_path / "whole.safetensors"
    save_file({**trained[1], "0.weight": trained[1]["0.weight"].to(torch.int32)}, path)
    with pytest.raises(WeightsError, match=r"0\.weight is torch\.int32"):
        zoo.load("tiny", weights=path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("0.weight"), r"1 missing \(0.weight\)"),
        (lambda t: t.update(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
        (lambda t: t.update({"5.bias": torch.ones(4)}), r"5.bias \[4\], expected \[3\]"),
    ],
)
def test_weights_of_another_architecture_are_refused(trained, tmp_path, change, said):
    tensors = dict(trained[1])
    change(tensors)
    path = tmp_path / "other.safetensors"
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=said):
        zoo.load("tiny", weights=str(path))


def test_a_file_carries_what_differs_from_its_architecture(trained, tmp_path):
    tensors = {**trained[1], "5.weight": torch.ones(5, 2), "5.bias": torch.ones(5)}
    path = tmp_path / "five.safetensors"
    outputs = [{"name": "five", "labels": list("abcde")}]
    save_file(tensors, path, metadata={"zoo": json.dumps({"arguments": {"classes": 5}, "outputs": outputs})})
    model = zoo.load("tiny", weights=str(path))
    assert model(torch.zeros(1, 1, 4, 8, 8)).shape == (1, 5)
    assert model.zoo_entry.outputs[0].labels == tuple("abcde")


def test_a_file_need_not_say_how_its_builder_calls_a_head(installed, tiny, monkeypatch, tmp_path):
    installed.add("plain", tiny.replace('"flat"))', '"flat"), argument="classes")'))
    installed.use(monkeypatch)
    path = tmp_path / "some.safetensors"
    outputs = [{"name": "shape", "labels": list("abc")}]
    save_file(zoo.load("tiny", weights=None).state_dict(), path, metadata={"zoo": json.dumps({"outputs": outputs})})
    model = zoo.load("tiny", weights=path, num_classes=7)
    assert model.zoo_entry.arguments == {"classes": 7}
    assert model.zoo_load_report.replaced == ()


@pytest.fixture
def flat(tmp_path, trained):
    """Weights of a 2D twin of the tiny network, with a header and a record of its own, and a head it does not share."""
    torch.manual_seed(5)
    tensors = {
        "0.weight": torch.randn(2, 1, 3, 3),
        "0.bias": torch.randn(2),
        "1.weight": torch.randn(2),
        "5.weight": torch.randn(7, 2),
        "5.bias": torch.randn(7),
    }
    path = tmp_path / "flat.safetensors"
    said = {"arguments": {"classes": 7}, "outputs": [{"name": "digit"}], "input": {"frames": 1, "size": [5, 5]}}
    save_file(tensors, path, metadata={"zoo": json.dumps(said)})
    path.with_suffix(".json").write_text("{}")
    return path, tensors


def test_2d_weights_are_inflated_on_request_and_the_rest_is_drawn_from_the_seed(flat):
    path, tensors = flat
    state = torch.get_rng_state()
    model = zoo.load("tiny", weights=path, adapt="inflate", seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    random = zoo.load("tiny", weights=None, seed=3).state_dict()
    loaded = model.state_dict()
    assert torch.equal(loaded.pop("0.weight"), (tensors["0.weight"] / 3)[:, :, None].expand(-1, -1, 3, -1, -1))
    assert all(torch.equal(value, random[name]) for name, value in loaded.items())
    other = zoo.load("tiny", weights=path, adapt="inflate", seed=4).state_dict()
    assert not torch.equal(other["5.weight"], loaded["5.weight"])
    assert not model.training


def test_the_load_report_of_inflated_weights_counts_and_names_everything(flat):
    path, tensors = flat
    model = zoo.load("tiny", weights=path, adapt="inflate", dtype="float64")
    report = model.zoo_load_report
    assert (report.taken, report.adapted, report.left, report.initialised) == (1, 1, 4, 8)
    assert {*report.left_names, "0.weight"} == set(tensors)
    assert {*report.initialised_names, "0.weight"} == set(model.state_dict())
    assert (report.adapt, report.build, report.dtype) == ("inflate", "ordinary", "float64")
    assert (report.name, report.tag, report.file) == ("tiny.flat (inflated)", "flat (inflated)", str(path))
    assert (report.sha256, report.bytes) == (digests.sha256_of(path), path.stat().st_size)


def test_inflated_weights_lend_the_model_nothing_else_of_the_network_they_are_from(flat):
    path, _ = flat
    model = zoo.load("tiny", weights=path, adapt="inflate")
    entry, weights = model.zoo_entry, model.zoo_weights
    assert entry.weights == (weights,)
    assert (entry.arguments, entry.input, entry.outputs) == (
        {},
        *[getattr(zoo.info("tiny"), n) for n in ("input", "outputs")],
    )
    assert (weights.record, weights.recipe, weights.metrics, weights.golden) == (None, None, (), None)
    assert weights.source == str(path)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ({"adapt": "inflat"}, UsageError, "adapt='inflat' is unknown; expected 'inflate'"),
        ({"adapt": True}, UsageError, "adapt=True is unknown"),
        ({"weights": None}, UsageError, "adapt='inflate' takes 2D weights from a file"),
        ({"weights": "default"}, UsageError, "tiny has no trained weights"),
        ({"name": "loaded", "weights": "default"}, UsageError, "fits loaded as it is: leave adapt out"),
        ({"name": "loaded", "weights": "a"}, UsageError, "fits loaded as it is: leave adapt out"),
        ({"weights": "missing.safetensors"}, UnknownNameError, "missing"),
        ({"weights": "damaged"}, WeightsError, "not a whole safetensors file"),
    ],
)
def test_wrong_calls_of_adapt_raise_named_errors(flat, tmp_path, call, error, said):
    if call.get("weights") == "damaged":
        damaged = tmp_path / "damaged.safetensors"
        damaged.write_bytes(flat[0].read_bytes()[:-9])
        call = {"weights": damaged}
    with pytest.raises(error, match=said):
        zoo.load(**{"name": "tiny", "weights": flat[0], "adapt": "inflate", **call})


def test_2d_weights_are_not_inflated_unasked(flat):
    with pytest.raises(WeightsError, match=r"0\.weight \[2, 1, 3, 3\], expected \[2, 1, 3, 3, 3\].*adapt='inflate'"):
        zoo.load("tiny", weights=flat[0])


def test_a_changed_file_is_not_loaded(trained):
    path, _ = trained
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="sha256"):
        zoo.load("loaded")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"name": "lodaed"}, UnknownNameError),
        ({"name": "loaded.b"}, UnknownNameError),
        ({"name": "loaded", "weights": "b"}, UnknownNameError),
        ({"name": "loaded", "weights": "missing.safetensors"}, UnknownNameError),
        ({"name": "loaded.a", "weights": "b"}, UsageError),
        ({"name": "tiny"}, UsageError),
        ({"name": "loaded", "device": "cuda:99"}, DeviceError),
        ({"name": "loaded", "device": "gpu"}, DeviceError),
    ],
)
def test_wrong_calls_raise_named_errors(trained, call, error):
    with pytest.raises(error):
        zoo.load(**call)


@pytest.mark.parametrize("body", ["raise ValueError('no')", "return 5", "missing"])
def test_a_broken_builder_is_named(installed, tiny, monkeypatch, body):
    installed.add(
        "broken", tiny.replace("def build(", f"def unused(): pass\n    def build(**kw):\n        {body}\n    def b(")
    )
    installed.use(monkeypatch)
    with pytest.raises(PluginError, match="broken:build"):
        zoo.load("tiny", weights=None)


STACKED = """
    def stacked(layers=1, width=1):
        from torch import nn
        return nn.Sequential(*[nn.Linear(width, width) for _ in range(layers)])

    @hookimpl
    def zoo_models():
        return [entry("stack", builder=f"{__name__}:stacked", arguments=ARGUMENTS)]
"""


@pytest.mark.parametrize("arguments", [{"layers": 10**9}, {"width": 200_000}, {"width": 10_000_000}, {"layers": 500}])
@pytest.mark.parametrize("header", [True, False])
def test_what_a_builder_makes_is_limited_by_memory_and_not_its_arguments(
    installed, tiny, monkeypatch, tmp_path, arguments, header
):
    """The arguments are those of a file, or of the entry; the last ones alone fit."""
    monkeypatch.setattr("zoo.devices.free_memory", lambda: 2**20)
    monkeypatch.setattr(weights_files, "MOST_TENSORS", 2000)
    installed.add("deep", tiny + STACKED.replace("ARGUMENTS", "{}" if header else repr(arguments)))
    installed.use(monkeypatch)
    fits = arguments == {"layers": 500}
    if not header:
        if fits:
            assert zoo.load("stack", weights=None).zoo_load_report.parameters == 1000
        else:
            with pytest.raises(MemoryLimitError, match=r"stack"):
                zoo.load("stack", weights=None)
        return
    path = tmp_path / "stack.safetensors"
    save_file({"0.weight": torch.ones(1, 1)}, path, metadata={"zoo": json.dumps({"arguments": arguments})})
    with pytest.raises((MemoryLimitError, WeightsError), match=r"stack"):
        zoo.load("stack", weights=path)


def test_weights_that_are_not_finite_are_reported(trained, tmp_path):
    _, tensors = trained
    bad = {**tensors, "5.bias": torch.full_like(tensors["5.bias"], float("nan"))}
    save_file(bad, tmp_path / "nan.safetensors")
    with pytest.warns(NotFiniteWarning, match=r"5\.bias"):
        model = zoo.load("tiny", weights=tmp_path / "nan.safetensors")
    assert model.zoo_load_report.not_finite == ("5.bias",)
    bad = {**tensors, "1.running_var": torch.full_like(tensors["1.running_var"], float("inf"))}
    save_file(bad, tmp_path / "inf.safetensors")
    with pytest.warns(NotFiniteWarning, match=r"1\.running_var"):
        zoo.load("tiny", weights=tmp_path / "inf.safetensors")
    large = {**tensors, "0.weight": torch.full_like(tensors["0.weight"], 3e38)}  # finite, though its sum is not
    save_file(large, tmp_path / "large.safetensors")
    assert zoo.load("tiny", weights=tmp_path / "large.safetensors").zoo_load_report.not_finite == ()


def test_a_mask_may_hold_minus_infinity():
    module = torch.nn.Linear(2, 2)
    module.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    module.register_buffer("bad", torch.tensor([0.0, float("nan")]))
    module.bias.data[0] = float("-inf")
    assert loading.not_finite(module) == ("bias", "bad")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model_ema.", "net.ema."])
@pytest.mark.parametrize("more", [(), ("n_averaged", "optimizer.state")])
def test_a_prefix_is_named_with_what_to_do_about_it(trained, tmp_path, prefix, more):
    _, tensors = trained
    wrapped = {f"{prefix}{name}": value for name, value in tensors.items()}
    path, new = tmp_path / "wrapped.safetensors", tmp_path / "plain.safetensors"
    save_file({**wrapped, **{name: torch.ones(1) for name in more}}, path)
    for numbers in ({}, {"num_classes": 5}):
        with pytest.raises(WeightsError, match=re.escape(repr(prefix))) as caught:
            zoo.load("tiny", weights=path, **numbers)
        assert all(name in str(caught.value) for name in more)
    remedy = re.search(r"save_file\(.*\)$", str(caught.value)).group()
    exec(remedy, {"load_file": load_file, "save_file": save_file, "FILE": path, "NEW_FILE": new})
    assert zoo.load("tiny", weights=new).zoo_load_report.taken == len(tensors)


def test_a_prefix_of_a_compiled_part_is_named(trained, tmp_path):
    _, tensors = trained
    path = tmp_path / "part.safetensors"
    save_file({name.replace("5.", "5._orig_mod."): value for name, value in tensors.items()}, path)
    with pytest.raises(WeightsError, match=r"without the prefix '_orig_mod\.'"):
        zoo.load("tiny", weights=path)


@pytest.mark.parametrize("name", ["nofile.pth", "nofile.safetensors", "sub/nofile", "model.CKPT", "a/b.bin"])
def test_a_missing_file_is_not_taken_for_a_tag(trained, name):
    with pytest.raises(UnknownNameError, match="weights file") as caught:
        zoo.load("loaded", weights=name)
    assert "tag" not in str(caught.value)


def test_files_that_are_not_safetensors_are_identified(trained, tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match="pickle"):
        zoo.load("tiny", weights=tmp_path / "mine.pth")
    with pytest.raises(UsageError, match="folder"):
        zoo.load("tiny", weights=f"{tmp_path}/")
