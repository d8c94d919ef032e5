import concurrent.futures
import dataclasses
import itertools
import json
import math
import signal
import sys
import types

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from zoo import devices
from zoo.entries.recipes import OPTIMIZERS
from zoo.errors import DeviceError, OutputError, PluginError, TrainingError, UnknownNameError, WeightsError
from zoo.training import Recipe, Stage
from zoo.training.checkpoints import CHECKPOINT, LOG
from zoo.training.loop import learning_rate, train
from zoo.weights.digests import sha256_of


class Toy(nn.Module):
    """A network with a BatchNorm, and one auxiliary layer that training drops."""

    def __init__(self, width=4):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
        self.auxiliary = nn.Linear(3, 1)


@pytest.fixture
def toy(monkeypatch):
    """The module `toy` that the recipe names, importable for the length of a test."""
    module = types.ModuleType("toy")

    def data(model, stage, seed, device):
        def batch_at(step):
            if step == module.stop_at:
                raise KeyboardInterrupt
            x = torch.randn(stage.batch_size, 3, generator=torch.Generator().manual_seed(seed * 1000 + step))
            x = x.to(device)
            return {"x": x, "y": x.sum(1, keepdim=True)}

        return batch_at

    def loss(model, batch, stage):
        error = (model.network(batch["x"]) - batch["y"]).square().mean()
        return error + (model.auxiliary(batch["x"]) - batch["y"]).square().mean(), {"error": error}

    def evaluate(network, device, clips=None):
        assert not network.training
        metric = {"dataset": "toy", "split": "test", "name": "bias", "value": network[2].bias.item()}
        return {"metrics": [metric], "breakdown": {}}

    module.stop_at = -1
    module.build = Toy
    module.export = lambda model: model.network
    module.example = lambda: torch.ones(1, 3)
    module.data, module.loss, module.evaluate = data, loss, evaluate
    module.nan = lambda model, batch, stage: (model.auxiliary.bias.sum() * math.nan, {})
    monkeypatch.setitem(sys.modules, "toy", module)
    return module


def recipe(**changes):
    stage = Stage(name="first", steps=12, batch_size=8, learning_rate=0.05, data="toy:data", loss="toy:loss", warmup=3)
    second = dataclasses.replace(stage, name="second", steps=8, averaging=0.9)
    return Recipe(
        **{
            "name": "toy.tag",
            "build": "toy:build",
            "export": "toy:export",
            "evaluate": "toy:evaluate",
            "example": "toy:example",
            "stages": (stage, second),
            "header": {"arguments": {"digits": 3}},
            **changes,
        }
    )


def one_stage(**changes):
    return recipe(stages=(dataclasses.replace(recipe().stages[0], **changes),))


def test_training_writes_the_weights_their_golden_tensors_and_their_record(toy, tmp_path):
    path = train(recipe(), tmp_path, log_every=4, progress=False)
    assert path == tmp_path / "toy.tag.safetensors"
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["zoo"]) == {"arguments": {"digits": 3}}
    network = Toy().network
    network.load_state_dict(load_file(path))
    golden = load_file(tmp_path / "toy.tag.golden.safetensors")
    assert torch.equal(network.eval()(golden["input"]), golden["output"])
    record = json.loads((tmp_path / "toy.tag.json").read_text())
    assert record["recipe"]["name"] == "toy.tag"
    assert record["metrics"][0]["value"] == pytest.approx(network[2].bias.item())
    assert [line["step"] for line in record["log"]] == [4, 8, 12, 4, 8]
    assert json.loads((tmp_path / LOG).read_text()) == record["log"]
    assert record["log"][2]["error"] < record["log"][0]["error"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_goes_on_with_its_moments(toy, tmp_path, optimizer):
    given = one_stage(optimizer=optimizer)
    whole = train(given, tmp_path / "whole", progress=False)
    toy.stop_at = 7
    with pytest.raises(KeyboardInterrupt):
        train(given, tmp_path / "killed", progress=False, checkpoint_every=0)
    toy.stop_at = -1
    assert train(given, tmp_path / "killed", progress=False).read_bytes() == whole.read_bytes()
    plain = train(one_stage(), tmp_path / "plain", progress=False)
    assert (plain.read_bytes() == whole.read_bytes()) == (optimizer in ("Adam", "AdamW"))  # no decay tells them apart


def test_without_an_example_to_take_nothing_is_trained(toy, tmp_path):
    with pytest.raises(PluginError, match="example"):
        train(dataclasses.replace(recipe(), example=""), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_optimizer_that_is_none_of_them_is_told(toy, tmp_path):
    with pytest.raises(UnknownNameError, match="unknown optimizer 'Adan'; did you mean 'Adam'"):
        train(one_stage(optimizer="Adan"), tmp_path, progress=False)


def test_a_killed_run_goes_on_to_the_same_bytes(toy, tmp_path):
    whole = train(recipe(), tmp_path / "whole", progress=False)
    for stop_at in (5, 2, 7):  # 5 kills the first stage, which is then ended; 2 and 7 kill the second
        toy.stop_at = stop_at
        with pytest.raises(KeyboardInterrupt):
            train(recipe(), tmp_path / "killed", progress=False, checkpoint_every=0)
        if stop_at == 5:
            toy.stop_at = -1
            train(recipe(), tmp_path / "killed", progress=False, checkpoint_every=0, until="first")
    toy.stop_at = -1
    killed = train(recipe(), tmp_path / "killed", progress=False)
    assert whole.read_bytes() == killed.read_bytes()
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == [
        CHECKPOINT,
        LOG,
        "toy.tag.golden.safetensors",
        "toy.tag.json",
        "toy.tag.safetensors",
    ]


def test_a_network_with_dropout_goes_on_to_the_same_bytes(toy, tmp_path):
    class Dropping(Toy):
        def __init__(self):
            super().__init__()
            self.network[0] = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5))

    toy.build = Dropping
    first, second = recipe().stages
    dropping = recipe(stages=(dataclasses.replace(first, recalibration=3), second))
    whole = train(dropping, tmp_path / "whole", progress=False)
    for call in (6, 8, 5):  # in the first stage, as it recalibrates, in the second stage
        interrupted(toy, call)
        with pytest.raises(KeyboardInterrupt):
            train(dropping, tmp_path / "stopped", progress=False)
    assert train(dropping, tmp_path / "stopped", progress=False).read_bytes() == whole.read_bytes()


def test_every_step_draws_something_else(toy, tmp_path):
    plain, drawn = toy.loss, []

    def loss(*given):
        drawn.append(torch.rand(()).item())
        return plain(*given)

    toy.loss = loss
    train(recipe(), tmp_path / "1", progress=False)
    train(recipe(seed=1), tmp_path / "2", progress=False)
    assert len(set(drawn)) == len(drawn) == 40


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_generator_of_a_gpu_is_left_alone(toy, tmp_path, device):
    before = torch.cuda.get_rng_state()
    train(one_stage(steps=2), tmp_path, device=device, progress=False)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def interrupted(toy, *calls):
    """Let the toy's loss press Ctrl-C in these calls of it, counted from 1."""
    plain, count = toy.loss, itertools.count(1)

    def loss(model, batch, stage):
        if next(count) in calls:
            signal.raise_signal(signal.SIGINT)
        return plain(model, batch, stage)

    toy.loss = loss


@pytest.mark.parametrize("at", [1, 6, 12, 14])  # 12 is the last step of the first stage, 14 recalibrates
def test_an_interrupted_run_has_lost_no_step_and_goes_on_to_the_same_bytes(toy, tmp_path, at):
    first, second = recipe().stages
    longer = recipe(stages=(dataclasses.replace(first, recalibration=3, averaging=0.9), second))
    whole = train(longer, tmp_path / "whole", progress=False)
    interrupted(toy, at)
    with pytest.raises(KeyboardInterrupt):
        train(longer, tmp_path / "stopped", progress=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with safe_open(tmp_path / "stopped" / CHECKPOINT, "pt") as file:
        assert json.loads(file.metadata()["training"])["step"] == min(at, 12)
    assert train(longer, tmp_path / "stopped", progress=False).read_bytes() == whole.read_bytes()


def test_a_second_interrupt_does_not_wait_for_the_step(toy, tmp_path):
    plain = toy.loss

    def loss(*given):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return plain(*given)

    toy.loss = loss
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_training_runs_in_another_thread(toy, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(train, one_stage(steps=1), tmp_path, progress=False).result().exists()


def test_the_same_seed_gives_the_same_bytes_and_leaves_the_global_generator_alone(toy, tmp_path):
    before = torch.get_rng_state()
    first = train(recipe(), tmp_path / "1", progress=False).read_bytes()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert train(recipe(), tmp_path / "2", progress=False).read_bytes() == first
    assert train(recipe(seed=5), tmp_path / "3", progress=False).read_bytes() != first


def test_until_an_unknown_stage_trains_nothing(toy, tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown stage 'fist'; did you mean 'first'"):
        train(recipe(), tmp_path / "out", progress=False, until="fist")
    assert not (tmp_path / "out").exists()


def test_until_a_stage_that_is_done_stops_at_once(toy, tmp_path):
    for until in ("second", "second", "first"):
        assert train(recipe(), tmp_path, progress=False, until=until) is None
        toy.stop_at = 0  # any further step would be an interrupt
    assert [path.name for path in sorted(tmp_path.iterdir())] == [CHECKPOINT, LOG]


def test_later_stages_of_a_recipe_may_change_but_not_those_that_are_done(toy, tmp_path):
    train(recipe(), tmp_path, progress=False, until="first")
    first, second = recipe().stages
    with pytest.raises(TrainingError, match=r"another recipe \(stage 'first': steps 12, now 13\)"):
        train(recipe(stages=(dataclasses.replace(first, steps=13), second)), tmp_path, progress=False)
    assert train(recipe(stages=(first, dataclasses.replace(second, steps=2))), tmp_path, progress=False)


def test_a_checkpoint_says_what_its_recipe_has_otherwise(toy, tmp_path):
    toy.build = lambda width=4: Toy(width)
    train(recipe(arguments={"width": 5}), tmp_path, progress=False, until="first")
    with pytest.raises(TrainingError, match=r"\(arguments {'width': 5}, now {'width': 6}\); choose another folder"):
        train(recipe(arguments={"width": 6}), tmp_path, progress=False)
    with pytest.raises(TrainingError, match=r"\(seed 0, now 1\); choose another folder"):
        train(recipe(arguments={"width": 5}, seed=1), tmp_path, progress=False)
    with pytest.raises(TrainingError, match=r"\(stage 'first': name 'first', now None"):
        train(recipe(arguments={"width": 5}, stages=()), tmp_path, progress=False)
    toy.build = lambda width: Toy(7)
    with pytest.raises(TrainingError, match=r"another network than toy:build \(first .*\); choose another folder"):
        train(recipe(arguments={"width": 5}), tmp_path, progress=False)


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", None, "{}", "[]", '{"stages": []}'])
def test_a_file_that_is_no_checkpoint_is_named(toy, tmp_path, content):
    if not isinstance(content, bytes):
        save_file({"x": torch.ones(1)}, tmp_path / CHECKPOINT, metadata=content and {"training": content})
    else:
        (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(TrainingError, match="is no checkpoint; delete it"):
        train(recipe(), tmp_path, progress=False)


def test_a_loss_that_is_no_number_stops_the_run(toy, tmp_path):
    with pytest.raises(TrainingError, match="no number any more in stage 'first'"):
        train(one_stage(loss="toy:nan"), tmp_path, progress=False)


@pytest.mark.parametrize("astray", ["loss", "gradient"])
def test_no_checkpoint_is_replaced_by_one_that_went_astray(toy, tmp_path, astray):
    plain, seen = toy.loss, []

    def loss(model, batch, stage):
        seen.append(batch)
        value, terms = plain(model, batch, stage)
        if len(seen) > 5:  # a loss without a gradient leaves the weights as they are; the root of 0 has no gradient
            value = value + (math.nan if astray == "loss" else (0 * model.auxiliary.bias).sqrt().sum())
        return value, terms

    toy.loss = loss
    with pytest.raises(TrainingError, match=r"no number any more in stage 'first'.*checkpoint"):
        train(recipe(), tmp_path, progress=False, checkpoint_every=0)
    with safe_open(tmp_path / CHECKPOINT, "pt") as file:
        assert json.loads(file.metadata()["training"])["step"] == 5
    assert all(value.isfinite().all() for value in load_file(tmp_path / CHECKPOINT).values())


def test_recalibration_leaves_the_statistics_of_its_batches_as_the_stage_ends(toy, tmp_path):
    kept = train(one_stage(autocast=False), tmp_path / "kept", progress=False)
    again = one_stage(autocast=False, recalibration=3)
    found = load_file(train(again, tmp_path / "again", progress=False))
    network = Toy().network
    network.load_state_dict(load_file(kept))  # the same weights: recalibration changes none
    batch_at = toy.data(None, again.stages[0], again.seed, "cpu")
    with torch.no_grad():
        inputs = [network[0](batch_at(12 + k)["x"]) for k in range(3)]
    torch.testing.assert_close(found["0.weight"], network[0].weight.detach())
    torch.testing.assert_close(found["1.running_mean"], torch.stack([x.mean(0) for x in inputs]).mean(0))
    torch.testing.assert_close(found["1.running_var"], torch.stack([x.var(0) for x in inputs]).mean(0))
    assert not torch.allclose(found["1.running_mean"], network[1].running_mean)


@pytest.mark.parametrize("native", [True, False])
def test_a_stage_runs_in_bfloat16_where_the_device_does_and_unless_it_says_otherwise(
    toy, tmp_path, monkeypatch, native
):
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: native and device.type == "cpu")
    seen = []
    plain = toy.loss

    def loss(model, batch, stage):
        seen.append(model.auxiliary(batch["x"]).dtype)
        return plain(model, batch, stage)

    toy.loss = loss
    train(one_stage(steps=1, recalibration=1), tmp_path / "1", progress=False)
    train(one_stage(steps=1, autocast=False), tmp_path / "2", progress=False)
    assert seen == [torch.bfloat16 if native else torch.float32, torch.float32, torch.float32]


def test_a_checkpoint_from_before_a_setting_existed_is_still_this_recipes(toy, tmp_path):
    train(recipe(), tmp_path, progress=False, until="first")
    with safe_open(tmp_path / CHECKPOINT, "pt") as file:
        state = json.loads(file.metadata()["training"])
    del state["stages"][0]["recalibration"]
    save_file(load_file(tmp_path / CHECKPOINT), tmp_path / CHECKPOINT, metadata={"training": json.dumps(state)})
    assert train(recipe(), tmp_path, progress=False)


def test_averaging_leaves_the_running_average_of_the_weights(toy, tmp_path):
    plain, averaged = one_stage(steps=4), one_stage(steps=4, averaging=0.5)
    last = [load_file(train(one_stage(steps=4), tmp_path / "p", progress=False))["2.bias"]]
    assert plain.stages[0].averaging == 0
    # the same trajectory, step by step: kill it after each step and read the checkpoint
    seen = []
    for step in range(4):
        toy.stop_at = step
        with pytest.raises(KeyboardInterrupt):
            train(averaged, tmp_path / "a", progress=False, checkpoint_every=0)
        if step:
            seen.append(load_file(tmp_path / "a" / CHECKPOINT)["module.network.2.bias"])
    toy.stop_at = -1
    found = load_file(train(averaged, tmp_path / "a", progress=False))["2.bias"]
    torch.manual_seed(0)
    expected = Toy().network[2].bias.detach()
    for step, value in enumerate((*seen, *last)):
        decay = min(0.5, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(found, expected)


def test_the_learning_rate_rises_in_a_line_and_falls_on_a_cosine():
    stage = dataclasses.replace(recipe().stages[0], steps=110, warmup=10, learning_rate=2.0, final_rate=0.5)
    assert learning_rate(stage, 0) == pytest.approx(0.2)
    assert learning_rate(stage, 9) == pytest.approx(2.0)
    assert learning_rate(stage, 10) == pytest.approx(2.0)
    assert learning_rate(stage, 60) == pytest.approx(1.5)
    assert learning_rate(stage, 110) == pytest.approx(1.0)


def test_a_gradient_is_clipped_and_weights_decay_as_the_stage_says(toy, tmp_path):
    torch.manual_seed(0)
    start = Toy().network.state_dict()
    # a gradient of length 1e-12 is nothing beside AdamW's epsilon of 1e-8, so that only the decay is left
    for decay in (0.0, 0.5):
        stage = one_stage(steps=1, warmup=0, clip_norm=1e-12, weight_decay=decay)
        found = load_file(train(stage, tmp_path / str(decay), progress=False))
        torch.testing.assert_close(found["0.weight"], start["0.weight"] * (1 - 0.05 * decay), rtol=0, atol=1e-5)


def test_training_starts_from_given_weights(toy, tmp_path):
    start = Toy().network
    start[2].bias.data.fill_(40.0)
    save_file(start.state_dict(), tmp_path / "start.safetensors")
    path = train(one_stage(steps=1), tmp_path / "out", from_weights=tmp_path / "start.safetensors", progress=False)
    assert load_file(path)["2.bias"].item() > 39
    again = train(one_stage(steps=1), tmp_path / "out", from_weights=tmp_path / "start.safetensors", progress=False)
    assert again == path
    save_file(Toy().network.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(TrainingError, match=r"checkpoint\.safetensors is there and began otherwise: leave --from-w"):
        train(one_stage(steps=1), tmp_path / "out", from_weights=tmp_path / "other.safetensors", progress=False)


def test_the_record_says_which_weights_the_build_began_with(toy, tmp_path, monkeypatch):
    def beginning(digest):
        def build():
            module = Toy()
            module.zoo_start = {"small.tag": digest}
            return module

        return build

    def recorded(folder, **settings):
        path = train(one_stage(steps=2), folder, progress=False, **settings)
        return path and json.loads(path.with_suffix(".json").read_text())["start"]

    assert recorded(tmp_path / "plain") is None
    assert recorded(tmp_path / "old", minutes=0) is None  # a checkpoint that names none
    monkeypatch.setattr(toy, "build", beginning("1" * 64))
    assert recorded(tmp_path / "new", minutes=0) is None
    assert recorded(tmp_path / "old") == {"small.tag": "1" * 64}
    monkeypatch.setattr(toy, "build", beginning("2" * 64))  # other weights by now: those trained are the first ones'
    assert recorded(tmp_path / "new") == {"small.tag": "1" * 64}
    save_file(Toy().network.state_dict(), tmp_path / "start.safetensors")
    given = recorded(tmp_path / "given", from_weights=tmp_path / "start.safetensors")
    assert given == sha256_of(tmp_path / "start.safetensors")
    assert recorded(tmp_path / "given") == given


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (None, "cannot be read"),
        (b"damaged", "not a whole safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (
            {f"0.{k}": torch.ones(2) for k in range(99)},
            r"another network than toy.tag \(first difference: 0.weight is missing, expected with shape \[4, 3\]\)$",
        ),
        (Toy(5).network.state_dict(), r"\(first difference: 0\.weight has shape \[5, 3\], expected \[4, 3\]\)$"),
        ({**Toy().network.state_dict(), "3.x": torch.ones(1)}, r"\(first difference: 3\.x is there, expected nothing"),
    ],
)
def test_weights_that_do_not_fit_are_named(toy, tmp_path, tensors, message):
    path = tmp_path / "start.safetensors"
    if isinstance(tensors, bytes):
        path.write_bytes(tensors)
    elif tensors:
        save_file(tensors, path)
    with pytest.raises(WeightsError, match=message):
        train(recipe(), tmp_path / "out", from_weights=path, progress=False)
    assert not (tmp_path / "out").exists()


def test_the_device_may_be_left_to_the_machine(toy, tmp_path):
    train(one_stage(steps=1), tmp_path, device="auto", progress=False)
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert json.loads((tmp_path / "toy.tag.json").read_text())["device"] == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_where_there_is_none_is_an_error(toy, tmp_path):
    with pytest.raises(DeviceError, match="no CUDA device is here"):
        train(recipe(), tmp_path, device="cuda")


def test_a_folder_that_cannot_be_made_is_an_error(toy, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        train(recipe(), tmp_path / "file" / "out", progress=False)


def test_a_disk_that_is_full_at_a_checkpoint_is_an_error(toy, tmp_path, full_disk):
    with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.safetensors"):
        train(recipe(), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_progress_goes_to_stderr(toy, tmp_path, capsys):
    train(recipe(), tmp_path)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "first" in captured.err
