"""Weights files: find them, verify them once, read their header, map their tensors. Nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import describing
from zoo.entries import InputSpec, OutputSpec, WeightsEntry
from zoo.errors import OutputError, PluginError, UnknownNameError, UsageError, WeightsError, describe, one_line
from zoo.isolation import contained
from zoo.writing import write

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from torch import Tensor

#: Key of the safetensors metadata that holds what differs from the architecture's entry, as JSON.
METADATA_KEY = "zoo"
#: How the name of a file ends that says which tensors of a model lie in which of several safetensors files beside it.
INDEX = ".safetensors.index.json"
_LONGEST_INDEX = 2**24
#: Bytes of a file's header, which are taken for it before anything is known of it.
LONGEST_HEADER = 2**25
#: Tensors in a file, or in all shards of an index; each takes time, whatever it holds.
MOST_TENSORS = 2**17
#: Characters of JSON that says what differs from an architecture's entry.
LONGEST_OVERRIDES = 2**20
#: Types of tensors that models have, as safetensors writes them.
_DTYPES = frozenset(
    {*("BOOL", "C64", "BF16", "F8_E4M3", "F8_E5M2", "F16", "F32", "F64")}
    | {f"{kind}{bits}" for kind in "IU" for bits in (8, 16, 32, 64)}
)
#: Nanoseconds within which a file may be changed twice and bear the same time.
_TICK = 20_000_000


def locate(source: str) -> Path:
    """The file that "package:path/in/package" or a path names.

    Raises:
        WeightsError: where a bundled file is missing from its package.
        UnknownNameError, UsageError: where there is no such file on disk, or a folder.
    """
    if source.startswith("hub:"):
        from zoo import hub

        return hub.cached(source)
    if source.startswith(("https://", "http://")):
        raise WeightsError(f"{source} is not on this machine; `zoo load MODEL` downloads it")
    package, colon, inside = source.partition(":")
    if colon and len(package) > 1 and all(part.isidentifier() for part in package.split(".")):  # C: is a drive
        return _bundled(package, inside)
    path = Path(source).expanduser()
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name the weights file in it")
    if not path.is_file():
        siblings = [other.name for other in path.parent.glob("*.safetensors")]
        raise UnknownNameError("weights file", path.name, siblings, f"there is no such file in {path.parent}")
    return path


def _bundled(package: str, inside: str) -> Path:
    from importlib.resources import files

    try:
        with contained():  # it imports the package
            path = Path(str(files(package))) / inside
    except ModuleNotFoundError as error:
        raise PluginError(f"{package}:{inside} names a package that is not installed") from error
    except Exception as error:
        raise PluginError(f"{package}:{inside} names a package that cannot be imported: {describe(error)}") from error
    if not path.is_file():
        raise WeightsError(
            f"{package}:{inside} is missing from the installed package (looked at {path}); reinstall it, or, where "
            "the package is yours, put the file there"
        )
    return path


def sha256_of(path: Path, *, remembered: bool = True) -> str:
    """SHA-256 of a file, hashed once and then remembered by its path, size, modification time and inode.

    Args:
        path: The file.
        remembered: Say False to hash it again in any case.
    """
    path = path.resolve()
    status = path.stat()
    young = status.st_mtime_ns + _TICK - time.time_ns()
    if 0 < young <= _TICK:  # a change within the same tick of the file system's clock would go unseen ever after
        time.sleep(young / 1e9)
    identity = [status.st_size, status.st_mtime_ns, status.st_ino]
    memory = _remembered()
    known = memory.get(str(path))
    if remembered and isinstance(known, list) and known[:-1] == identity:
        return str(known[-1])
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    _remember({**memory, str(path): [*identity, digest]})
    return digest


def _memory_file() -> Path:
    from zoo import foreign

    return Path(foreign.cache_folder(), "sha256.json")


def _remembered() -> dict[str, Any]:
    try:
        memory = json.loads(_memory_file().read_text())
    except (OSError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _remember(memory: dict[str, Any]) -> None:
    """Write the memory atomically; a cache that cannot be written costs only time, so that is no error."""
    target = _memory_file()
    with contextlib.suppress(OSError, OutputError):
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target, json.dumps({path: known for path, known in memory.items() if Path(path).exists()}))


def obtain(weights: WeightsEntry, *, offline: bool = False, token: str | None = None) -> WeightsEntry:
    """The entry with a file on this machine as its source: others' files and those of the Hub are fetched.

    Args:
        weights: An entry of the catalogue.
        offline: Raise rather than ask the network; `ZOO_OFFLINE=1` says the same.
        token: Of the Hub, where it is not that of the environment.

    Raises:
        WeightsError, OutputError, UsageError: as `zoo.foreign.obtain` and `zoo.hub.obtain`.
    """
    if weights.is_hub:
        from zoo import hub

        return hub.obtain(weights, offline=offline, token=token)
    if weights.is_foreign:
        from zoo import foreign

        return foreign.obtain(weights, offline=offline)
    return weights


def parts(path: Path) -> tuple[Path, ...]:
    """The files that a weights file consists of: itself; an index and then its shards, by name.

    Raises:
        WeightsError: where the index is damaged, or names what is no file beside it.
    """
    if not path.name.endswith(INDEX):
        return (path,)
    return path, *(path.with_name(shard) for shard in sorted(set(_placed(path).values())))


def _placed(index: Path) -> dict[str, str]:
    """Of each tensor that an index names, the shard that holds it."""
    try:
        if index.stat().st_size > _LONGEST_INDEX:
            raise ValueError(f"it is longer than {_LONGEST_INDEX:,} bytes")
        with index.open("rb") as file:
            found = describing.identify(file.read(describing.LENGTH))
        if found and "JSON" not in found[0]:
            raise ValueError(f"it is {found[0]}; {found[1]}")
        placed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(placed, dict) or not placed:
            raise ValueError("its weight_map names no tensors")
        _check_names(placed)
        for shard in placed.values():
            if not isinstance(shard, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", shard, re.ASCII):
                raise ValueError(f"{shard!r} is no name of a safetensors file beside it")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(f"{index} is no index of safetensors files: {one_line(error)}") from error
    return placed


def size_of(path: Path) -> int:
    """Bytes of a weights file, of its shards together.

    Raises:
        WeightsError: where a shard is missing.
    """
    try:
        return sum(part.stat().st_size for part in parts(path))
    except OSError as error:
        what = f"the shard {Path(error.filename).name} of {path}" if path.name.endswith(INDEX) else str(path)
        raise WeightsError(f"{what} cannot be read: {error.strerror}") from error


def digest_of(path: Path, *, remembered: bool = True) -> str:
    """SHA-256 as entries give it: of the file; of shards that of the lines `sha256sum` prints of the index and them."""
    if not path.name.endswith(INDEX):
        return sha256_of(path, remembered=remembered)
    lines = [f"{sha256_of(part, remembered=remembered)}  {part.name}\n" for part in parts(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check(path: Path, weights: WeightsEntry) -> None:
    """Raise WeightsError unless the file is the one that its entry describes."""
    size, digest = size_of(path), ""
    if size == weights.bytes:
        digest = digest_of(path)
        if digest == weights.sha256:
            return
    kind = describing.identify_file(path)
    if kind and not (path.name.endswith(INDEX) and "JSON" in kind):
        raise WeightsError(f"{path} {kind}")
    if size != weights.bytes:
        raise WeightsError(f"{path} has {size:,} bytes, its entry says {weights.bytes:,}; reinstall or fetch it again")
    raise WeightsError(
        f"{path} has sha256 {digest}, its entry says {weights.sha256}; "
        "the file was changed: reinstall or fetch it again"
    )


@dataclass(frozen=True)
class Header:
    """What a safetensors file says of itself."""

    #: Name to dtype (as safetensors writes it) and shape.
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Names, dtypes and shapes in a file, without reading a tensor.

    Raises:
        WeightsError: where the file is no whole safetensors file; a renamed pickle is named as such; where shards do
            not hold what their index says.
    """
    if path.name.endswith(INDEX):
        return _merged(path)
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            start = file.read(describing.LENGTH)
        if found := describing.identify(start):
            raise WeightsError(f"{path} is {found[0]}; {found[1]}")
        if int.from_bytes(start[:8], "little") > LONGEST_HEADER:
            raise ValueError(f"its header has more than {LONGEST_HEADER:,} bytes")
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            _check_names(names)
            slices = {name: file.get_slice(name) for name in names}
            tensors = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            _check_dtypes(tensors)
            return Header(tensors, dict(file.metadata() or {}))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {one_line(error)}") from error


def _check_names(names: Collection[str]) -> None:
    """Raise ValueError for more tensors than models have, or names that messages could not repeat."""
    if len(names) > MOST_TENSORS:
        raise ValueError(f"it has {len(names):,} tensors; expected at most {MOST_TENSORS:,}")
    odd = next((name for name in names if not name.isprintable()), None)
    if odd is not None:
        raise ValueError(f"{odd[:80]!a} is no name of a tensor: it holds what cannot be shown")


def _check_dtypes(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    odd = next((name for name, (dtype, _) in tensors.items() if dtype not in _DTYPES), None)
    if odd is not None:
        raise ValueError(f"{odd} is {tensors[odd][0]}; expected one of {', '.join(sorted(_DTYPES))}")


def _merged(index: Path) -> Header:
    """What the shards of an index say together; of each, what the index does not place there would be a mistake."""
    placed = _placed(index)
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    metadata: dict[str, str] = {}
    for shard in parts(index)[1:]:
        if not shard.is_file():
            raise WeightsError(f"the shard {shard.name} of {index} is missing; put it beside the index")
        header = read_header(shard)
        expected = {name for name, where in placed.items() if where == shard.name}
        if header.tensors.keys() != expected:
            odd = ", ".join(sorted(header.tensors.keys() ^ expected)[:3])
            raise WeightsError(f"{shard} does not hold the tensors that {index.name} places there: {odd}")
        tensors.update(header.tensors)
        metadata.update(header.metadata)
    return Header(tensors, metadata)


def map_tensors(path: Path, *, mmap: bool = True) -> dict[str, Tensor]:
    """Tensors of a weights file, mapped (pages are read when touched) or read at once.

    Raises:
        WeightsError: where it cannot be read; `read_header` says more of what is wrong with it.
    """
    import safetensors.torch

    if path.name.endswith(INDEX):
        return {name: value for part in parts(path)[1:] for name, value in map_tensors(part, mmap=mmap).items()}
    if os.fsencode(path).decode(errors="ignore") != str(path):
        mmap = False  # safetensors opens no name that is not UTF-8
    try:
        return safetensors.torch.load_file(path) if mmap else safetensors.torch.load(path.read_bytes())
    except (OSError, ValueError, TypeError, KeyError, RecursionError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} does not read as tensors: {type(error).__name__}: {one_line(error)}") from error


def describe_file(source: str, known: Iterable[WeightsEntry] = ()) -> WeightsEntry:
    """The entry of a weights file given by its path: tag from its name, overrides from its header.

    A JSON file of the same name beside it is taken for its record, and not read here.

    Args:
        source: The path.
        known: Entries of files without a header of ours; the one with this file's SHA-256 is taken for it.

    Raises:
        UnknownNameError, WeightsError: where the file is missing or unreadable.
    """
    path = locate(source)
    tag = path.name.removesuffix(INDEX).removesuffix(".safetensors")
    record = path.with_name(f"{tag}.json")
    metadata = read_header(path).metadata
    if METADATA_KEY not in metadata:
        for entry in known:
            if entry.bytes == size_of(path) and entry.sha256 == digest_of(path):
                return dataclasses.replace(entry, source=str(path))
    overrides = _overrides(path, metadata.get(METADATA_KEY, "{}"))
    return WeightsEntry(
        tag=tag,
        source=str(path),
        bytes=size_of(path),
        sha256=digest_of(path),
        license="unknown",
        record=str(record) if record.is_file() else None,
        **overrides,
    )


def _overrides(path: Path, text: str) -> dict[str, Any]:
    try:
        if len(text) > LONGEST_OVERRIDES:
            raise ValueError(f"it is longer than {LONGEST_OVERRIDES:,} characters")
        return overrides_of(dict(json.loads(text) or {}))
    except (TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise WeightsError(f"the header of {path} holds no valid {METADATA_KEY!r} entry: {one_line(error)}") from error


def overrides_of(said: dict[str, Any]) -> dict[str, Any]:
    """What JSON says of arguments, input and outputs, as fields of a WeightsEntry.

    Raises:
        TypeError, ValueError, AttributeError: where it says nonsense.
    """
    overrides: dict[str, Any] = {}
    if "arguments" in said:
        overrides["arguments"] = dict(said["arguments"])
    if "input" in said:
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in said["input"].items()
        }
        overrides["input"] = InputSpec(**fields)
    if "outputs" in said:
        overrides["outputs"] = tuple(
            OutputSpec(**{**output, "labels": tuple(output.get("labels", ()))}) for output in said["outputs"]
        )
    return overrides
