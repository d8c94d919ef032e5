"""How many samples run at once: as many as memory holds, fewer when it turns out to hold less."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from zoo import devices
from zoo.devices import is_out_of_memory
from zoo.errors import MemoryLimitError

#: Called as progress(done, total) while something long runs; counts never go beyond total.
Progress = Callable[[int, int], None]

#: Share of the free memory that a batch may take; the rest is for what the estimate misses.
SHARE = 0.5

#: Most samples in a batch; beyond, none of the networks tried gains anything.
LARGEST = 64

#: On a CPU, bytes that a batch's forward pass may make: larger tensors are mapped and unmapped at every operation,
#: which costs more than batching saves (conv3d: 2 samples at once take 0.6 times as long as 4, each).
CPU_BLOCK = 2**28

Result = TypeVar("Result")

Part = TypeVar("Part")


def free_memory(device: torch.device) -> int:
    """Bytes that can be allocated: measured for CUDA (torch's own cache counts as free), else asked of the system.

    On a CPU it is the least that the machine, every control group around this process and its own limits leave.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return devices.free_memory()


class MeasuredBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts the bytes of every tensor made within: what a forward pass would keep if it recorded gradients."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for value in result if isinstance(result, tuple | list) else (result,):
                if isinstance(value, torch.Tensor):
                    self.total += value.numel() * value.element_size()
        return result


def fitting(made: float, device: torch.device, *, kept: float = 1.0) -> int:
    """Samples that fit at once, at least 1 and at most `LARGEST`.

    Args:
        made: Bytes that one sample's forward pass makes (`MeasuredBytes`).
        device: Where it runs.
        kept: Bytes needed at once, as a multiple of `made`: more than 1 for passes that record gradients.
    """
    most = SHARE * free_memory(device) / max(kept * made, 1.0)
    if device.type == "cpu":
        most = min(most, CPU_BLOCK / max(made, 1.0))
    return max(1, min(LARGEST, int(most)))


def within_memory(run: Callable[[int], Result], size: int, what: str = "one sample") -> Result:
    """`run(size)`, with half as many samples at once each time memory runs out.

    Raises:
        MemoryLimitError: Not even one sample at once fits; says what was tried.
    """
    size = max(1, size)
    while True:
        result, failure = _attempt(run, size)
        if failure is None:
            return result  # type: ignore[return-value]  # set where there is no failure
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # as above
            torch.cuda.empty_cache()
        if size == 1:
            raise MemoryLimitError(
                f"memory does not hold {what}: {failure}. Use a smaller clip (fewer frames or a smaller size), "
                "free memory, or another device"
            )
        size //= 2


def in_parts(
    run: Callable[[slice], Part],
    samples: int,
    size: Callable[[Part | None], int],
    what: str = "one sample",
) -> list[Part]:
    """`run(part)` for parts of a batch on end, halved where memory runs out; what is done is not done again.

    Args:
        run: Called with slices of the batch.
        samples: Samples in the batch.
        size: Samples to try at once; asked again after each part, with what that gave (None at first).
        what: What is too much where not even one sample fits.

    Raises:
        MemoryLimitError: As `within_memory`.
    """
    parts: list[Part] = []
    start, most = 0, samples
    while start < samples:

        def one(count: int, start: int = start) -> tuple[Part, int]:
            return run(slice(start, start + count)), count

        tried = max(1, min(most, size(parts[-1] if parts else None), samples - start))
        part, count = within_memory(one, tried, what)
        parts.append(part)
        start += count
        most = most if count == tried else count
    return parts


def _attempt(run: Callable[[int], Result], size: int) -> tuple[Result | None, str | None]:
    """One try; its own function, so that everything the failed try held is let go before the next."""
    try:
        return run(size), None
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        return None, str(error).splitlines()[0] if str(error) else type(error).__name__
