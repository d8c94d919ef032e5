"""Time of loading r3d_18 (134 MB), beside its parts and its peers: `python benchmarks/loading.py [--peers]`.

Every page of the weights is touched after each load, so that nothing is left to be read later. CPU time is that of all
threads. A cold load begins with the file's pages dropped from memory. Peers are torchvision and, where it is
installed, timm with a ResNet-50 of images, each with random weights of their own in a file.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import zoo
from zoo.models import meta
from zoo.weights import digests, files

MODEL = "r3d_18"


def touched(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model after reading one value of each page of its tensors."""
    for tensor in model.state_dict().values():
        tensor.flatten()[:: max(1, 4096 // tensor.element_size())].sum()
    return model


def raw_read(path: Path) -> int:
    """Read a file into already allocated memory; return its bytes."""
    buffer = memoryview(bytearray(2**24))
    with path.open("rb", buffering=0) as file:
        return sum(iter(lambda: file.readinto(buffer), 0))


def drop(path: Path) -> None:
    """Take a file's pages out of memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measured(
    calls: dict[str, Callable[[], Any]], repeats: int, before: Callable[[], Any] = lambda: None
) -> dict[str, Any]:
    """Measure median wall and CPU milliseconds of each call, in turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            before()
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            times[name].append((1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)))
    return {name: tuple(statistics.median(one) for one in zip(*found, strict=True)) for name, found in times.items()}


def shown(name: str, figures: tuple[float, float]) -> None:
    """Print one line."""
    print(f"{name:<44} {figures[0]:9.1f} ms wall {figures[1]:9.1f} ms CPU")


def peers(folder: Path, repeats: int) -> None:
    """Torchvision's way and timm's, as their documentation loads a file."""
    from zoo_torchvision_models.operators import import_torchvision

    video = import_torchvision("torchvision.models.video")
    state = folder / "r3d_18.pth"
    torch.save(video.r3d_18().state_dict(), state)

    def torchvision() -> None:
        model = video.r3d_18()
        model.load_state_dict(torch.load(state, weights_only=True))
        touched(model)

    calls: dict[str, Callable[[], Any]] = {"torchvision, r3d_18, .pth": torchvision}
    try:
        import timm  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        print("timm is not installed: pip install timm")
    else:
        from safetensors.torch import load_file

        image, sibling = folder / "resnet50.safetensors", folder / "zoo50.safetensors"
        save_file(timm.create_model("resnet50").state_dict(), image)
        save_file(zoo.load("resnet50", weights=None).state_dict(), sibling)

        def with_timm() -> None:
            model = timm.create_model("resnet50")
            model.load_state_dict(load_file(image))
            touched(model)

        calls["timm, resnet50, safetensors"] = with_timm
        calls["zoo.load, resnet50"] = lambda: touched(zoo.load("resnet50", weights=sibling))
    for name, figures in measured(calls, repeats).items():
        shown(name, figures)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="Where to put the files; on the disk that cold loads are to be of.")
    parser.add_argument("--peers", action="store_true", help="Measure torchvision and timm too.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        path = Path(made) / f"{MODEL}.safetensors"
        save_file(zoo.load(MODEL, weights=None).state_dict(), path)
        entry = zoo.info(MODEL)
        digests.sha256_of(path)  # hashed once, as after a download
        print(f"{MODEL}: {path.stat().st_size / 1e6:.0f} MB, {torch.get_num_threads()} threads")

        def random_and_copy() -> None:
            model = meta.build(entry)
            model.load_state_dict(files.map_tensors(path))
            touched(model)

        def on_meta() -> None:
            with meta.parameters_on_meta():
                meta.build(entry)

        calls: dict[str, Callable[[], Any]] = {
            "raw read of the file": lambda: raw_read(path),
            "meta build": on_meta,
            "zoo.load, every page touched": lambda: touched(zoo.load(MODEL, weights=path)),
            "zoo.load, mmap=False": lambda: touched(zoo.load(MODEL, weights=path, mmap=False)),
            "random init + copy": random_and_copy,
        }
        for call in calls.values():
            call()  # imports and first uses
        warm = measured(calls, options.repeats)
        for name, figures in warm.items():
            shown(name, figures)
        read, build, load, _, copy = warm.values()
        print(f"warm: {load[0] / (read[0] + build[0]):.2f} times the raw read and the meta build (limit 2)")
        print(f"CPU: {copy[1] / load[1]:.1f} times less than random init and copy (limit 10)")
        cold = measured(
            {name: calls[name] for name in list(calls)[:4] if name != "meta build"},
            max(3, options.repeats // 3),
            lambda: drop(path),
        )
        for name, figures in cold.items():
            shown(f"cold: {name}", figures)
        if options.peers:
            peers(Path(made), options.repeats)


if __name__ == "__main__":
    main()
