"""Identification of files that are not valid weights, by their first bytes or their tensor names."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: Suffix of the index that maps a model's tensors to several safetensors files beside it.
INDEX = ".safetensors.index.json"

#: Leading bytes of a file that identify its format.
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

#: Suffixes of weights files, in this and in other formats.
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
    """Check whether a text is a file name rather than a model or tag, whether or not the file exists."""
    return "/" in name or os.sep in name or name.lower().endswith(_SUFFIXES)


def identify(start: bytes) -> tuple[str, str] | None:
    """Describe a file that is not safetensors by its first bytes, and what to do about it.

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
    """Do as `identify`, in one clause that follows the file's name; empty if unknown or unreadable."""
    try:
        with path.open("rb") as file:
            found = identify(file.read(LENGTH))
    except OSError:
        return ""
    return f"is {found[0]}; {found[1]}" if found else ""


def prefix_remedy(expected: Mapping[str, object], found: Mapping[str, object]) -> str:
    """Find the prefix of a wrapper, a trainer or an average without which tensor names would match.

    Args:
        expected: Of the architecture, by name.
        found: Of the file, by name.

    Returns:
        The prefix and how to remove it; empty if no prefix makes the names match.
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
    """Return the text that a name has beyond the expected one, at its beginning or, if compiled in part, inside."""
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
