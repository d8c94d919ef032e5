"""The device that a name asks for."""

from __future__ import annotations

from zoo.errors import DeviceError


def resolve(name: str) -> str:
    """The torch device for "auto", "cpu", "cuda" or "cuda:N"; "auto" is the first GPU where there is one.

    Raises:
        DeviceError: for a device that this machine does not have.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        asked = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if asked.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise DeviceError(f"device {name!r} was asked for, and no CUDA device is here; use cpu or auto")
        if asked.index is not None and asked.index >= count:
            raise DeviceError(f"device {name!r} was asked for, and this machine has cuda:0 to cuda:{count - 1}")
    elif asked.type != "cpu":
        raise DeviceError(f"device {name!r} is not supported; expected auto, cpu, cuda or cuda:N")
    return name
