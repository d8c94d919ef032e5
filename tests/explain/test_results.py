"""Results as files: what is read is what was kept, and nothing else is taken for it."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Mapping

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import explain
from explain import results as saving
from explain.faithfulness import check_faithfulness
from zoo.errors import DeviceError, OutputError, ResultError, UsageError


def same(one, two):
    """Whether two results hold the same: types, texts, numbers, and tensors byte by byte."""
    if type(one) is not type(two):
        return False
    if isinstance(one, Tensor):
        equal = one.dtype == two.dtype and one.shape == two.shape
        return equal and one.cpu().numpy().tobytes() == two.cpu().numpy().tobytes()
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, field.name), getattr(two, field.name)) for field in dataclasses.fields(one))
    if isinstance(one, Mapping):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two or (one != one and two != two)


@pytest.fixture
def watched(nets):
    """A network with two outputs, and two clips."""
    model = nets.Rectified().eval()
    model.zoo_entry = nets.entry(outputs=nets.DIGIT_AND_SPEED)
    return model, torch.randn(2, 1, 4, 6, 6)


def results(model, batch):
    """One result of each kind, each with something that JSON or a tensor file makes hard."""
    yield explain.attribute(
        model, batch, method="gradient_shap", target="digit:one", baseline=(0.0, "blur"), n_samples=6, seed=2
    )
    yield explain.attribute(model, batch, method="saliency", target="stem.0/2:max")  # positions, and a frame
    yield explain.attribute(model, batch, method="grad_cam")  # a layer, and why
    attribution = explain.attribute(model, batch, method="saliency")
    yield check_faithfulness(model, batch, attribution, steps=3, draws=2, depths=2)
    yield explain.maximize(model, "block.0", [0, 3], shape=(1, 4, 6, 6), steps=2)
    yield explain.temporal_parameters(model)
    yield explain.view_units(model, batch[:1], "stem.0", 1, steps=1)[0]


@pytest.fixture
def attribution(watched):
    return explain.attribute(*watched, method="saliency", target="digit")


def test_every_kind_of_result_comes_back_as_it_was(watched, tmp_path):
    for place, result in enumerate(results(*watched)):
        file = result.save(tmp_path / f"result-{place}")
        assert file == tmp_path / f"result-{place}.safetensors"
        for path in (file, str(tmp_path / f"result-{place}")):
            assert same(type(result).load(path), result), result
        assert saving.packed(type(result).load(file)) == file.read_bytes()


def test_everything_that_is_hard_to_write_down_comes_back(attribution, tmp_path):
    hard = {
        "nan": float("nan"),
        "far": -float("inf"),
        "mixed": [(1, [2.5, None]), (), True],
        "$tuple": {"$class": "Target", "ünï": "<&\n>"},
        "": torch.zeros(0, 3),
        "half": torch.tensor([1.5, float("nan")], dtype=torch.bfloat16).float(),
        "tiny": 5e-324,
    }
    view = attribution.map[0].expand(2, -1, -1, -1)  # shares memory with itself and others, and has no order of its own
    result = dataclasses.replace(attribution, settings=hard, raw=attribution.map, time=view)
    result.save(tmp_path / "a.b")
    assert same(explain.Attribution.load(tmp_path / "a.b"), result)


def test_what_no_file_keeps_is_refused_before_anything_is_written(attribution, tmp_path):
    with pytest.raises(TypeError, match=r"settings\.what is of the type object"):
        dataclasses.replace(attribution, settings={"what": object()}).save(tmp_path / "a")
    with pytest.raises(TypeError, match="has the key 3"):
        dataclasses.replace(attribution, settings={3: 1}).save(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_a_map_that_was_read_is_tested_like_the_one_that_was_kept(watched, attribution, tmp_path):
    attribution.save(tmp_path / "a")
    read = explain.Attribution.load(tmp_path / "a")
    tests = [check_faithfulness(*watched, one, steps=3, draws=2, depths=1) for one in (attribution, read)]
    assert same(*tests)
    again = explain.attribute(*watched, method="saliency", target=read.target)
    assert torch.equal(again.map, attribution.map)


def test_a_function_comes_back_as_its_name_and_says_so_when_it_is_called(watched, tmp_path):
    def brightness(output):
        return output["speed"][:, 0]

    explain.attribute(*watched, method="saliency", target=brightness).save(tmp_path / "a")
    read = explain.Attribution.load(tmp_path / "a")
    assert str(read.target) == "brightness"
    with pytest.raises(UsageError, match="brightness was a function, which a file does not keep"):
        explain.attribute(*watched, method="saliency", target=read.target)


def test_the_record_reads_as_json_beside_its_tensors(attribution, tmp_path):
    with safe_open(attribution.save(tmp_path / "a"), framework="pt") as file:
        header = json.loads(file.metadata()["explain"])
        assert set(file.keys()) == {"raw", "map", "time", "clip", "target.value", "target.classes"}
    assert header["format"] == 1
    assert header["result"]["method"] == "saliency"
    assert header["result"]["target"]["head"] == "digit"
    assert header["result"]["map"] == {"$tensor": "map"}


def test_an_earlier_result_is_replaced_and_another_file_is_not(attribution, tmp_path):
    file = attribution.save(tmp_path / "a")
    before = file.read_bytes()
    dataclasses.replace(attribution, method="other").save(tmp_path / "a")
    assert explain.Attribution.load(file).method == "other"
    assert file.read_bytes() != before
    (tmp_path / "text.safetensors").write_text("mine")
    save_file({}, tmp_path / "weights.safetensors")
    for name in ("text", "weights"):
        foreign = tmp_path / f"{name}.safetensors"
        kept = foreign.read_bytes()
        with pytest.raises(OutputError, match="holds no result of explain"):
            attribution.save(tmp_path / name)
        assert foreign.read_bytes() == kept
    with pytest.raises(OutputError, match="does not exist; make it first"):
        attribution.save(tmp_path / "nowhere" / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.safetensors" for n in ("a", "text", "weights")]


def rewritten(file, change):
    """The file with another header; the tensors stay."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    said = json.loads(header["__metadata__"]["explain"])
    change(said)
    header["__metadata__"]["explain"] = json.dumps(said)
    made = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(made)) + made + content[8 + length :])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda said: said.update(format=2, version="9.0"), r"has the format 2 \(written by motion-zoo 9\.0\)"),
        (lambda said: said.pop("result"), "holds no result of explain"),
        (lambda said: said["result"].update({"$class": "Maximization"}), "'Maximization', not 'Attribution'"),
        (lambda said: said["result"].pop("method"), "does not hold what a Attribution has .*'method'"),
        (lambda said: said["result"].update(colour="red"), "does not hold what a Attribution has .*'colour'"),
        (lambda said: said["result"]["target"].update({"$class": "os"}), "does not hold .*'os'"),
        (lambda said: said["result"].update(map={"$tensor": "none"}), "does not hold .*'none'"),
    ],
    ids=["version", "no record", "kind", "field missing", "field unknown", "unknown class", "tensor missing"],
)
def test_a_file_of_another_kind_or_version_says_what_it_is(attribution, tmp_path, change, message):
    file = attribution.save(tmp_path / "a")
    rewritten(file, change)
    with pytest.raises(ResultError, match=message):
        explain.Attribution.load(file)


def test_a_damaged_file_and_a_missing_one_say_so(attribution, tmp_path):
    file = attribution.save(tmp_path / "a")
    content = file.read_bytes()
    for length in (0, 5, 200, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ResultError, match="no safetensors file, or a damaged one"):
            explain.Attribution.load(file)
    with pytest.raises(ResultError, match="there is no file"):
        explain.Attribution.load(tmp_path / "b")
    (tmp_path / "c.safetensors").mkdir()
    with pytest.raises(ResultError, match="cannot read"):
        explain.Attribution.load(tmp_path / "c")
    file.write_bytes(content)
    with pytest.raises(DeviceError):
        explain.Attribution.load(file, device="cuda:99")


def test_a_run_that_ends_while_writing_leaves_the_earlier_result(attribution, tmp_path, monkeypatch):
    file = attribution.save(tmp_path / "a")
    before = file.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dataclasses.replace(attribution, method="other").save(file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_results_of_a_gpu_are_drawn_kept_and_read_onto_it(watched, tmp_path):
    model, batch = watched[0].cuda(), watched[1].cuda()
    for place, result in enumerate(results(model, batch)):
        result.plot()
        assert result._repr_html_() == type(result).load(result.save(tmp_path / f"{place}"))._repr_html_()
    attribution = explain.attribute(model, batch, method="saliency", target="digit")
    attribution.save(tmp_path / "a")
    for place, result in enumerate(results(model, batch)):
        read = type(result).load(tmp_path / f"{place}", device="cuda")
        read.plot()
        assert read._repr_html_() == result._repr_html_()
    read = explain.Attribution.load(tmp_path / "a", device="cuda")
    assert read.map.device == read.target.value.device == batch.device
    assert torch.equal(explain.attribute(model, batch, method="saliency", target=read.target).map, attribution.map)


def test_a_result_shows_its_fields_and_no_numbers_of_its_tensors(nets):
    result = explain.attribute(nets.PooledLinear(), torch.randn(1, 1, 3, 4, 5), method="saliency")
    assert "map=<1 x 3 x 4 x 5>" in repr(result)
    assert "method='saliency'" in repr(result)
    assert "tensor(" not in repr(result)


def test_faithfulness_of_version_0_1_had_a_field_for_each_measure(watched, tmp_path):
    model, batch = watched
    attribution = explain.attribute(model, batch, method="saliency")
    now = check_faithfulness(model, batch, attribution, steps=3, draws=2, depths=1)
    tensors = {}
    record = saving._plain(now, "", tensors)
    record["infidelity"], record["sensitivity"] = record.pop("measures")["infidelity"], None
    header = {"format": saving.FORMAT, "version": "0.1.0", "result": record}
    save_file(tensors, tmp_path / "old.safetensors", metadata={"explain": json.dumps(header)})
    old = explain.Faithfulness.load(tmp_path / "old")
    assert torch.equal(old.infidelity, now.infidelity)
    assert old.sensitivity is None
    assert list(old.measures) == ["infidelity"]
    assert old.record()["infidelity"] == now.record()["infidelity"]
