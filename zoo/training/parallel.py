"""One training run in several processes, as torchrun starts them: each computes its share of every batch.

The processes hold the same weights, and DistributedDataParallel adds their gradients up, which gives the gradients of
one process on the whole batch. A process that runs alone finds every function here doing nothing.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm  # the base of all BatchNorms, in torch's own documentation

from zoo import devices
from zoo.entries.recipes import Stage
from zoo.errors import DeviceError, TrainingError, UsageError

#: Time that a process waits for the others within a step, and while the first one evaluates the trained network.
PATIENCE: Final = timedelta(minutes=10)
_LONG_PATIENCE: Final = timedelta(days=2)


@dataclass(frozen=True)
class _Group:
    rank: int
    size: int
    device: torch.device
    #: Communication between steps, over gloo even if gradients use nccl; `rest` waits for very long.
    talk: Any
    rest: Any
    #: A group of this process alone.
    own: Any


@dataclass(frozen=True)
class Part:
    """The part of each batch that one process computes: every `size`-th clip."""

    batch_size: int
    rank: int
    size: int

    @property
    def weight(self) -> float:
        """Return this process's share of the clips."""
        return len(range(self.rank, self.batch_size, self.size)) / self.batch_size

    def of(self, batch: Any) -> Any:
        """Return this process's clips of a batch: a tensor, or tensors in mappings, lists and tuples, clips first."""
        if self.size == 1:
            return batch
        if isinstance(batch, Tensor):
            if batch.dim() == 0 or len(batch) != self.batch_size:
                raise TrainingError(
                    f"a batch of {self.batch_size} clips holds a tensor of shape {tuple(batch.shape)}; "
                    "to be shared by several processes, every tensor of a batch has the clips first"
                )
            return batch[self.rank :: self.size]
        if isinstance(batch, dict):
            return {name: self.of(value) for name, value in batch.items()}
        if isinstance(batch, list | tuple):
            return type(batch)(self.of(value) for value in batch)
        return batch


_group: _Group | None = None
_part: Part | None = None


def size() -> int:
    """Return the number of processes that train together; 1 for a single one."""
    return _group.size if _group else 1


def rank() -> int:
    """Return this process's rank, from 0. Rank 0 writes the files and shows progress."""
    return _group.rank if _group else 0


@contextmanager
def joined(device: str = "auto", *, patience: timedelta = PATIENCE) -> Iterator[str]:
    """Join the processes that torchrun started with this one; yield this process's device.

    On GPUs each process of a machine takes its own, and they use nccl; on the CPU gloo. If a process
    fails, the others end too; only the first to fail raises its error, the others exit with status 1.

    Args:
        device: As in `zoo.load`; "cuda" is this process's own GPU.
        patience: Time that a process waits within a step for one that does not respond.

    Raises:
        DeviceError: if there is no GPU for each process.
        TrainingError: if the rendezvous fails, or a process is lost.
    """
    global _group
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield devices.resolve(device)
        return
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=patience)))
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            "RANK and WORLD_SIZE are set, and the processes that they speak of do not find each other: "
            f"{_first_line(error)}; start them by torchrun"
        ) from error
    try:
        place = _own_device(device, size)
        with _talking():
            dist.init_process_group(
                "nccl" if place.type == "cuda" else "gloo", store=store, rank=rank, world_size=size, timeout=patience
            )
            talk = dist.new_group(backend="gloo", timeout=patience)
            rest = dist.new_group(backend="gloo", timeout=_LONG_PATIENCE)
            own = [dist.new_group([member]) for member in range(size)][rank]
        _group = _Group(rank, size, place, talk, rest, own)
        yield str(place)
    except (Exception, KeyboardInterrupt):
        if _is_first_to_fail(store):
            raise
        raise SystemExit(1) from None
    finally:
        _group = None
    dist.destroy_process_group()


def _is_first_to_fail(store: Any) -> bool:
    try:
        return bool(store.add("zoo/failed", 1) == 1)
    except RuntimeError:  # the process that kept the store is gone without a word
        return True


def _own_device(device: str, size: int) -> torch.device:
    if size > 1 and device.startswith("cuda:"):
        raise UsageError(f"{size} processes cannot all take {device}; say cuda, and each takes its own GPU")
    name = devices.resolve(device)
    if name != "cuda":
        return torch.device(name)
    local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= count:
        raise DeviceError(
            f"process {local + 1} of this machine has no GPU of its own: there are {count}; start as many, or say cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


@contextmanager
def _talking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and nccl have many words for a peer that is gone
        raise _lost(error) from error


#: What messages about a lost peer hold, within the passes of DistributedDataParallel.
_OF_PEERS = ("gloo", "nccl", "pair closure", "timeout", "timed out", "connection")


@contextmanager
def _communicating() -> Iterator[None]:
    """Translate errors of communication within a forward or backward pass; others are raised as they are."""
    try:
        yield
    except RuntimeError as error:
        text = str(error).casefold()
        if size() == 1 or not (isinstance(error, dist.DistError) or any(words in text for words in _OF_PEERS)):
            raise
        raise _lost(error) from error


def _lost(error: RuntimeError) -> TrainingError:
    return TrainingError(
        f"another process of this run has ended or does not answer ({_first_line(error)}); "
        "the last checkpoint is whole: start all processes again to go on from it"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def synchronized(module: nn.Module) -> nn.Module:
    """Convert BatchNorms to normalize, on GPUs, by the statistics of the whole batch.

    torch has no such BatchNorm for the CPU: there each process normalizes by its own clips.
    """
    if _group is None or _group.size == 1 or _group.device.type != "cuda":
        return module
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module, _group.own)  # type: ignore[no-untyped-call]
    return converted


@contextmanager
def sharing(module: nn.Module, batch_size: int) -> Iterator[Part]:
    """Share batches among all processes inside; outside, each process computes its own batches alone.

    Raises:
        UsageError: if there are fewer clips than processes.
    """
    global _part
    if batch_size < size():
        raise UsageError(f"{size()} processes cannot share batches of {batch_size} clips; start fewer")
    norms = [part for part in module.modules() if isinstance(part, nn.SyncBatchNorm)]
    _part = Part(batch_size, rank(), size())
    try:
        for norm in norms:
            norm.process_group = None  # all processes
        yield _part
    finally:
        _part = None
        for norm in norms:
            norm.process_group = _group.own if _group else None


def divisor(count: Tensor | int) -> Tensor:
    """Return the divisor of a loss's sum over a batch, if it counts anything but clips: at least 1.

    A mean over clips needs nothing: the loop weighs each process's loss by its share of the clips. A mean over masked
    frames does, for the processes see different numbers of them: `values[mask].sum() / divisor(mask.sum())` makes
    the processes' weighted losses add up to the mean over the whole batch. All processes must call it equally
    often. In one process it is the count itself.

    Args:
        count: A scalar: the frames, or the weight, in this process's part of the batch. No gradient goes through it.
    """
    part = _part
    total = torch.as_tensor(count).detach()
    if not total.is_floating_point():
        total = total.float()
    if part is None or part.size == 1 or _group is None:
        return total.clamp(min=1)
    total = total.to(_group.device, copy=True)
    with _talking():
        dist.all_reduce(total)
    return total.clamp_(min=1) * part.weight


class _Loss(nn.Module):
    """A recipe's loss as a forward pass, which DistributedDataParallel follows whatever it calls of the module."""

    def __init__(self, module: nn.Module, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.loss = loss
        self.terms: Mapping[str, Tensor] = {}

    def forward(self, batch: Any, stage: Stage) -> Tensor:
        loss, self.terms = self.loss(self.module, batch, stage)
        return cast("Tensor", loss)


def distributed(
    module: nn.Module, loss: Callable[..., Any]
) -> Callable[[Any, Stage], tuple[Tensor, Mapping[str, Tensor]]]:
    """Compute the `loss` of a stage's batch, `lost(batch, stage)`; `backward` then sums gradients of all processes.

    It is kept until then: DistributedDataParallel takes part in the backward pass. A parameter that no process uses
    keeps no gradient.
    """
    if size() == 1:
        return partial(loss, module)
    inner = _Loss(module, loss)
    with _talking(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # newer torch: forward_sync_buffers
        outer = nn.parallel.DistributedDataParallel(
            inner, broadcast_buffers=False, init_sync=False, find_unused_parameters=True
        )

    def lost(batch: Any, stage: Stage) -> tuple[Tensor, Mapping[str, Tensor]]:
        with _communicating():
            return outer(batch, stage), inner.terms

    return lost


def backward(loss: Tensor, part: Part) -> None:
    """Take the gradients of a loss, weighted by this process's share of the clips.

    Raises:
        TrainingError: if another process is lost.
    """
    with _communicating():
        (loss * (part.weight * part.size)).backward()  # type: ignore[no-untyped-call]  # DistributedDataParallel takes means


@torch.no_grad()
def average_statistics(module: nn.Module, share: float) -> None:
    """Replace BatchNorm's running statistics by their mean over the processes, weighted by shares that add up to 1."""
    buffers = [
        value
        for part in module.modules()
        if isinstance(part, _BatchNorm)
        for value in (part.running_mean, part.running_var)
        if value is not None
    ]
    if size() == 1 or not buffers:
        return
    flat = torch.cat(buffers) * share
    with _talking():
        dist.all_reduce(flat)
    for buffer, mean in zip(buffers, torch.split(flat, [len(buffer) for buffer in buffers]), strict=True):
        buffer.copy_(mean)


def totals(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sum scalars by name over all processes."""
    if _group is None or not values:
        return dict(values)
    flat = torch.stack([value.detach().double().cpu() for value in values.values()])
    with _talking():
        dist.all_reduce(flat, group=_group.talk)
    return dict(zip(values, flat, strict=True))


def highest(*values: int) -> list[int]:
    """Return the maximum of each number over all processes."""
    if _group is None:
        return list(values)
    flat = torch.tensor(values)
    with _talking():
        dist.all_reduce(flat, dist.ReduceOp.MAX, group=_group.talk)
    return flat.tolist()


def wait(*, long: bool = False) -> None:
    """Wait until all processes are here; `long`, while one of them does what takes hours."""
    if _group is not None:
        with _talking():
            dist.barrier(_group.rest if long else _group.talk)


def check_agreement(module: nn.Module, *position: int) -> None:
    """Check that all processes are at the same position of the run with the same weights.

    Raises:
        TrainingError: if they are not.
    """
    if size() == 1:
        return
    number = _digest(module, *position)
    if highest(number, -number) != [number, -number]:
        raise TrainingError(
            "the processes of this run do not begin with the same weights; "
            "they need one folder that all of them read, and a recipe that builds the same from the same seed"
        )


def _digest(module: nn.Module, *position: int) -> int:
    """Hash a sum over a module's tensors, whatever their memory layout, and the position to 56 bits."""
    digest = hashlib.sha256(repr(position).encode())
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return int.from_bytes(digest.digest()[:7], "big")
