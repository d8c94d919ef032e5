"""A plugin of small recipes, as a third party would write it, and what tests of it run in processes of their own."""

import os
import resource
import signal
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import click
import torch
from safetensors.torch import save_file
from torch import nn

from zoo import Recipe, cli, hookimpl
from zoo.commands.shared import output
from zoo.entries.recipes import Search, Span
from zoo.errors import DataError
from zoo.training import Stage, parallel

FRAMES = 5


class Regression(nn.Module):
    """A network with a BatchNorm, and a layer that only the second stage uses."""

    def __init__(self, *, still: bool, width: int):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, 1))
        self.spare = nn.Linear(3, 1)
        self.still = still

    def train(self, mode=True):
        super().train(mode)
        if self.still:
            self.network[1].eval()
        return self


def build(still=False, width=4):
    return Regression(still=still, width=width).double()


def export(module):
    return module.network


def data(module, stage, seed, device):
    if stage.arguments.get("missing") in (True, parallel.rank()):
        raise DataError("the numbers are missing")

    def batch_at(step):
        if stage.arguments.get("signal", {}).get(str(step), [None])[0] == parallel.rank():
            os.kill(os.getpid(), stage.arguments["signal"][str(step)][1])
        generator = torch.Generator().manual_seed(seed * 1000 + step)
        x = torch.randn(stage.batch_size, FRAMES, 3, generator=generator, dtype=torch.float64)
        masked = torch.rand(stage.batch_size, FRAMES, generator=generator) < 0.4
        return {"x": x, "y": x.sum(-1) + 1, "masked": masked}

    return batch_at


def loss(module, batch, stage):
    found = module.network(batch["x"].flatten(0, 1)).view(batch["y"].shape)
    error = (found - batch["y"]).square()
    masked = error[batch["masked"]].sum() / parallel.divisor(batch["masked"].sum())
    last = error[:, -1].mean()
    total = masked + last
    if stage.name == "second":
        total = total + (module.spare(batch["x"]).squeeze(-1) - batch["y"]).abs().mean()
    if stage.arguments.get("nan") == parallel.rank():
        total = total * torch.nan
    return total, {"masked": masked, "last": last}


def evaluate(network, device, clips=None):
    metric = {"dataset": "regression", "split": "test", "name": "bias", "value": network[2].bias.item()}
    return {"metrics": [metric], "clips_measured": clips, "breakdown": {}}


def example():
    return torch.ones(2, 3)


def recipe(tag, *, first=None, **arguments):
    """A recipe of two stages; `first` are the stage arguments of the first one, the others those of the module."""
    stages = [
        Stage(
            name=name,
            steps=steps,
            batch_size=batch_size,
            learning_rate=0.05,
            data=f"{__name__}:data",
            loss=f"{__name__}:loss",
            autocast=False,
            **settings,
        )
        for name, steps, batch_size, settings in (
            ("first", 6, 7, {"warmup": 2, "arguments": first or {}}),  # two processes cannot halve 7
            ("second", 4, 6, {"averaging": 0.9, "recalibration": 3}),
        )
    ]
    return Recipe(
        name=f"regression.{tag}",
        build=f"{__name__}:build",
        export=f"{__name__}:export",
        evaluate=f"{__name__}:evaluate",
        example=f"{__name__}:example",
        arguments=arguments,
        stages=tuple(stages),
    )


RECIPES = (
    recipe("plain"),
    recipe("still", still=True),
    recipe("empty", first={"missing": True}),
    recipe("half_empty", first={"missing": 1}),
    recipe("astray", first={"nan": 1}),
    recipe("interrupted", first={"signal": {"3": [1, signal.SIGINT]}}),
    recipe("terminated", first={"signal": {"3": [1, signal.SIGTERM]}}),
    recipe("killed", first={"signal": {"3": [1, signal.SIGKILL]}}),
    recipe("ctrl_c", first={"signal": {"3": [0, signal.SIGINT]}}),
    recipe("ended", first={"signal": {"3": [0, signal.SIGTERM]}}),
    replace(
        recipe("searched"),
        search=Search(
            space={"arguments.width": Span(low=2, high=8), "first.optimizer": Span(choices=("Adam", "RAdam"))},
            metrics=("bias",),
            compared="first.optimizer",
        ),
    ),
)


@hookimpl
def zoo_recipes():
    return list(RECIPES)


def command(*arguments):
    """The command `zoo`."""
    sys.argv = ["zoo", *arguments]
    cli.main()


def command_killed_at(moment, name, count, *arguments):
    """The command `zoo`, killed the `count`-th time that half of a file is written, or it is to be or was renamed."""
    left = [count]

    def reached(now, reached_name):
        left[0] -= (now, reached_name) == (moment, name)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    write, replace = Path.write_bytes, Path.replace

    def half(path, content):
        write(path, content[: len(content) // 2])
        reached("half", path.name.rpartition("-")[2])
        write(path, content)

    def renamed(path, target):
        reached("before", target.name)
        replace(path, target)
        reached("after", target.name)

    Path.write_bytes, Path.replace = half, renamed
    command(*arguments)


def command_on_a_full_disk(size, *arguments):
    """The command `zoo` where no file grows beyond `size` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    command(*arguments)


def gradients(folder):
    """Write the gradients of a batch of 7 clips, as this process has them in the end, and its share's loss."""
    torch.manual_seed(0)
    first, _ = recipe("still").stages
    with parallel.joined("cpu"):
        module = build(still=True).train().float()
        batch = data(module, first, 3, "cpu")(0)
        batch = {name: value.float() if value.is_floating_point() else value for name, value in batch.items()}
        with parallel.sharing(module, 7) as part:
            lost = parallel.distributed(module, loss)
            value, terms = lost(part.of(batch), first)
            parallel.backward(value, part)
            total = parallel.totals({name: part.weight * term for name, term in {"loss": value, **terms}.items()})
        found = {name: one.grad for name, one in module.named_parameters() if one.grad is not None}
        save_file({**found, **total}, f"{folder}/{parallel.rank()}.safetensors")


def statistics(folder):
    """Write BatchNorm's statistics after averaging: process 0 has a quarter of the weight."""
    norm = nn.BatchNorm1d(2)
    with parallel.joined("cpu"):
        rank = parallel.rank()
        norm.running_mean.copy_(torch.tensor([1.0, 5.0]) if rank else torch.tensor([9.0, 1.0]))
        norm.running_var.fill_(1.0 + 4 * rank)
        parallel.average_statistics(norm, 0.75 if rank else 0.25)
    save_file(norm.state_dict(), f"{folder}/{rank}.safetensors")


def waiting(seconds):
    """Process 1 does not answer within the patience of one second."""

    def stay():
        with parallel.joined("cpu", patience=timedelta(seconds=1)):
            lost = parallel.distributed(nn.Linear(1, 1), lambda module, batch, _: (module(batch).sum(), {}))
            with parallel.sharing(nn.Identity(), 2) as part:
                value, _ = lost(torch.ones(1, 1), None)
                if parallel.rank():
                    time.sleep(seconds)
                parallel.backward(value, part)

    commands = click.Group(commands=[click.Command("stay", callback=stay)])
    sys.argv = ["stay", "stay"]
    output.run(commands)
