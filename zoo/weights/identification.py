"""What a file is that is not the weights file it was taken for, by its first bytes or by the names of its tensors."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: How the name of a file ends that says which tensors of a model lie in which of several safetensors files beside it.
INDEX = ".safetensors.index.json"

#: Bytes at the beginning of a file that say what it is.
LENGTH: Final = 512

_TORCH = "convert it with safetensors.torch.save_file where you trust its source"

#: First bytes, what they are of, and what to do.
_STARTS: Final = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file with `git lfs pull`"),
    (b"\x89HDF", "an HDF5 file (Keras)", "expected safetensors"),
    (b"GGUF", "a GGUF file", "expected safetensors"),
    (b"\x93NUMPY", "a NumPy array", "expected safetensors"),
    (b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first"),
)

#: Protocols 0 and 1 of pickle have no mark of their own; torch.save writes 2 or a ZIP archive.
_PICKLES: Final = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

_PAGE: Final = re.compile(rb"\s*(<!doctype html|<html|<\?xml|<head|<body)", re.IGNORECASE)

#: How names of files with weights end, in this and in other formats.
_SUFFIXES: Final = (
    *(".safetensors", ".json", ".pth", ".pt", ".pth.tar", ".tar", ".ckpt", ".bin", ".pkl", ".pickle", ".npz", ".npy"),
    *(".h5", ".hdf5", ".keras", ".onnx", ".gguf", ".msgpack", ".zip"),
)

#: Who begins the names of a state dictionary so.
_WRAPPERS: Final = {
    "module.": "DataParallel, DistributedDataParallel or AveragedModel: save `model.module.state_dict()`",
    "_orig_mod.": "torch.compile: save `model._orig_mod.state_dict()`",
    "model.": "a module that holds the model, as Lightning's do: save `module.model.state_dict()`",
}


def is_file_name(name: str) -> bool:
    """Whether a text names a file rather than a model or the tag of weights, whether or not the file is there."""
    return "/" in name or os.sep in name or name.lower().endswith(_SUFFIXES)


def identify(start: bytes) -> tuple[str, str] | None:
    """What a file is, and what to do about it, where its first bytes say that it is not of safetensors.

    Args:
        start: The first `LENGTH` bytes of the file, or all of it.
    """
    if not start:
        return "empty", "fetch it again"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32:
        return None  # a header's length may begin as any of what follows
    plain = start.removeprefix(b"\xef\xbb\xbf")
    if _PAGE.match(plain):
        return "a web page, probably an error message of the server", "download the file itself"
    for mark, what, remedy in _STARTS:
        if start.startswith(mark):
            return what, remedy
    if start.startswith(_PICKLES):
        return "a pickle (as torch.save writes), and pickles are never opened here", _TORCH
    if plain.lstrip()[:1] in (b"{", b"["):
        return "JSON text", "expected safetensors"
    return None


def identify_file(path: Path) -> str:
    """As `identify`, in one clause that follows the file's name; empty where nothing is known or it cannot be read."""
    try:
        with path.open("rb") as file:
            found = identify(file.read(LENGTH))
    except OSError:
        return ""
    return f"is {found[0]}; {found[1]}" if found else ""


def prefix_remedy(expected: Mapping[str, object], found: Mapping[str, object]) -> str:
    """How names of tensors would fit without what a wrapper, a trainer or an average put before them.

    Args:
        expected: Of the architecture, by name.
        found: Of the file, by name.

    Returns:
        What the prefix is and how to be rid of it; empty if no prefix makes names fit.
    """
    fitting = Counter(prefix for name in found if (prefix := _prefix(name, expected)) is not None and prefix)
    if not fitting:
        return ""
    prefix, count = max(fitting.items(), key=lambda item: (item[1], -len(item[0])))
    others = [other for other, _ in fitting.most_common(4) if other != prefix]
    head = prefix.partition(".")[0] + "."
    wrapper = _WRAPPERS.get(head) or ("an average of weights (EMA)" if "ema" in head or "avg" in head else "")
    said = f"without the prefix {prefix!r} {count} of {len(expected)} names fit"
    if others:
        said += f" (others begin with {', '.join(map(repr, others))})"
    if wrapper:
        said += f"; it is of {wrapper}"
    strays = [name for name in found if _prefix(name, expected) is None]
    if strays:
        said += f"; leave out {', '.join(strays[:3])}{', ...' if len(strays) > 3 else ''}"
    rename = (
        f"{{name.replace({prefix!r}, '', 1): value for name, value in load_file(FILE).items() if {prefix!r} in name}}"
    )
    return f"{said}; or rename them: save_file({rename}, NEW_FILE)"


def _prefix(name: str, expected: Mapping[str, object]) -> str | None:
    """What stands in a name beyond one that is expected, at its beginning or, of a part that was compiled, inside."""
    if name in expected:
        return ""
    if (plain := name.replace("_orig_mod.", "")) != name and plain in expected:
        return "_orig_mod."
    parts = name.split(".")
    rests = [".".join(parts[at:]) for at in range(1, len(parts))]
    whole = next((rest for rest in rests if rest in expected), None)
    if whole is None:  # a part inside may have been compiled as well
        whole = next((rest for rest in rests if rest.replace("_orig_mod.", "") in expected), None)
    return None if whole is None else name.removesuffix(whole)
