import json
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from zoo.errors import TrainingError, UsageError
from zoo.training import checkpoints, parallel
from zoo.training.loop import train
from zoo.training.parallel import Part


def trained(processes, folder, recipe, *options, count=2):
    """Train in several processes, which must go well; gives the weights."""
    arguments = ("train", f"regression.{recipe}", "--out", str(folder), "--device", "cpu", *options)
    assert [one.status for one in processes.together("command", *arguments, count=count)] == [0] * count
    path = folder / f"regression.{recipe}.safetensors"
    return load_file(path) if path.exists() else None


def test_gradients_of_two_processes_are_those_of_one(processes, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    whole.mkdir()
    halves.mkdir()
    assert processes.run("gradients", str(whole)).status == 0
    assert [ended.status for ended in processes.together("gradients", str(halves))] == [0, 0]
    expected = load_file(whole / "0.safetensors")
    assert "spare.weight" not in expected
    for rank in (0, 1):
        found = load_file(halves / f"{rank}.safetensors")
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, check_dtype=False)


def test_two_processes_train_what_one_does_and_either_goes_on_from_the_other(processes, regression, tmp_path):
    recipe = next(one for one in regression.RECIPES if one.name == "regression.still")
    expected = load_file(train(recipe, tmp_path / "one", progress=False))
    found = trained(processes, tmp_path / "two", "still")
    assert trained(processes, tmp_path / "two_one", "still", "--until", "first") is None
    train(recipe, tmp_path / "one_two", progress=False, until="first")
    more = load_file(train(recipe, tmp_path / "two_one", progress=False))
    for weights in (found, more, trained(processes, tmp_path / "one_two", "still")):
        torch.testing.assert_close(weights, expected, rtol=1e-6, atol=1e-7)  # written in float32
    one, two = (json.loads((tmp_path / name / "log.json").read_text()) for name in ("one", "two"))
    assert [{**line, "seconds": 0} for line in two] == [{**line, "seconds": 0} for line in one]
    assert [line["stage"] for line in one] == ["first", "second"]


def test_recalibration_takes_whole_batches(processes, regression, tmp_path):
    found = trained(processes, tmp_path, "plain")
    network = regression.build().network.float()
    network.load_state_dict(found)
    second = regression.RECIPES[0].stages[1]
    batch_at = regression.data(None, second, 1000, "cpu")
    with torch.no_grad():
        inputs = [network[0](batch_at(4 + k)["x"].flatten(0, 1).float()) for k in range(3)]
    torch.testing.assert_close(found["1.running_mean"], torch.stack([x.mean(0) for x in inputs]).mean(0))
    torch.testing.assert_close(found["1.running_var"], torch.stack([x.var(0) for x in inputs]).mean(0))
    assert found["1.num_batches_tracked"] == 3


def test_statistics_are_averaged_by_weight(processes, tmp_path):
    assert [ended.status for ended in processes.together("statistics", str(tmp_path))] == [0, 0]
    for rank in (0, 1):
        found = load_file(tmp_path / f"{rank}.safetensors")
        assert found["running_mean"].tolist() == [3.0, 4.0]
        assert found["running_var"].tolist() == [4.0, 4.0]


@pytest.mark.parametrize(
    ("recipe", "statuses", "message"),
    [
        ("unknown", {1, 2}, "unknown recipe 'regression.unknown'"),
        ("empty", {1}, "the numbers are missing"),
        ("half_empty", {1}, "the numbers are missing"),
        ("astray", {1}, "the loss is no number any more in stage 'first'"),
        ("killed", {1, -signal.SIGKILL}, "another process of this run has ended"),
        ("interrupted", {1, 130}, "interrupted"),
    ],
)
def test_a_failure_ends_all_processes_with_one_message(processes, tmp_path, recipe, statuses, message):
    arguments = ("train", f"regression.{recipe}", "--out", str(tmp_path / "out"), "--device", "cpu")
    ended = processes.together("command", *arguments)
    assert {one.status for one in ended} == statuses
    (line,) = [line for one in ended for line in one.errors]
    assert message in line
    assert [one.out for one in ended] == ["", ""]


def test_sigterm_to_one_process_saves_and_stops_all(processes, regression, tmp_path):
    arguments = ("train", "regression.terminated", "--out", str(tmp_path), "--device", "cpu")
    assert [one.status for one in processes.together("command", *arguments)] == [128 + signal.SIGTERM] * 2
    assert checkpoints.position(regression.RECIPES[6], tmp_path)["step"] == 4
    assert trained(processes, tmp_path, "terminated")


def test_two_processes_measure_a_finished_run_again(processes, tmp_path):
    arguments = ("train", "regression.plain", "--out", str(tmp_path), "--device", "cpu")
    assert processes.run("command", *arguments, "--evaluate-clips", "5").status == 0
    ended = processes.together("command", *arguments)
    assert [one.status for one in ended] == [0, 0]
    assert sorted(one.out.partition(":")[0] for one in ended) == ["", "finished"]
    assert json.loads((tmp_path / "regression.plain.json").read_text())["clips_asked"] is None


def test_a_process_that_does_not_answer_is_not_waited_for_in_vain(processes):
    first, second = processes.together("waiting", 3)
    assert (first.status, second.status) == (1, 1)
    (line,) = first.errors + second.errors
    assert "does not answer" in line


def test_the_parts_of_a_batch_are_all_of_it():
    batch = {"x": torch.arange(7), "more": (torch.eye(7), [torch.zeros(7, 2)]), "name": "clips"}
    parts = [Part(7, rank, 3) for rank in range(3)]
    found = [part.of(batch) for part in parts]
    assert sorted(torch.cat([one["x"] for one in found]).tolist()) == list(range(7))
    assert [len(one["more"][1][0]) for one in found] == [3, 2, 2]
    assert found[1]["more"][0].shape == (2, 7)
    assert found[2]["name"] == "clips"
    assert sum(part.weight for part in parts) == pytest.approx(1)
    assert Part(7, 0, 1).of(batch) is batch


@pytest.mark.parametrize("tensor", [torch.ones(()), torch.ones(2, 7)])
def test_a_tensor_that_has_not_the_clips_first_cannot_be_shared(tensor):
    with pytest.raises(TrainingError, match="every tensor of a batch has the clips first"):
        Part(7, 0, 2).of({"x": tensor})


def test_one_process_divides_by_its_own_count():
    assert parallel.divisor(torch.tensor([True, False, True]).sum()) == 2
    assert parallel.divisor(0) == 1
    assert parallel.divisor(torch.tensor(2.5, dtype=torch.float64)).dtype == torch.float64


def test_what_processes_begin_with_is_compared_however_it_lies_in_memory():
    module = nn.Sequential(nn.Conv3d(3, 2, 1), nn.BatchNorm3d(2))
    before = parallel._digest(module, 0, 5)
    assert parallel._digest(module.to(memory_format=torch.channels_last_3d), 0, 5) == before
    assert parallel._digest(module, 0, 6) != before
    with torch.no_grad():
        module[0].bias[1] += 1e-6
    assert parallel._digest(module, 0, 5) != before


def test_what_cannot_be_shared_is_wrong_usage(monkeypatch):
    monkeypatch.setattr(parallel, "_group", parallel._Group(0, 4, torch.device("cpu"), None, None, None))
    with (
        pytest.raises(UsageError, match="4 processes cannot share batches of 3 clips; start fewer"),
        parallel.sharing(nn.Linear(1, 1), 3),
    ):
        pass
    with pytest.raises(UsageError, match="4 processes cannot all take cuda:1"):
        parallel._own_device("cuda:1", 4)


def test_processes_that_do_not_find_each_other_say_so(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(TrainingError, match=r"do not find each other: .*MASTER_ADDR.*torchrun"), parallel.joined("cpu"):
        pass
