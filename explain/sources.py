"""Clips denoted by a path, list or name, and their true labels."""

from __future__ import annotations

import csv
import fnmatch
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.clips import IMAGE_SUFFIXES, samples
from zoo.errors import ClipError, UnknownNameError, UsageError
from zoo.names import is_pattern, natural


def truths(label: str | None, classes: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the true class of each head that a label names.

    A label is a class of a head ("tabby", "Apply_Eye Makeup" in any case, with spaces, hyphens or underscores), or
    names heads: "digit 4, order 1-2-3-4". Unnamed classes are numbers.

    Args:
        label: The label, or None.
        classes: Labels of each classification head, in order; a bare label belongs to the first head that has it.
    """
    if label is None:
        return {}
    for head, names in classes.items():
        place = _place(label, names)
        if place is not None:
            return {head: place}
    found = {}
    for part in label.split(","):
        for head, names in classes.items():
            if part.strip().casefold().startswith(f"{head.casefold()} "):
                place = _place(part.strip()[len(head) + 1 :], names)
                if place is not None:
                    found[head] = place
    return found


def shown(found: Mapping[str, str], classes: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the true class of each head according to a sample's classes (`zoo.Sample.classes`).

    Args:
        found: The clip's class per category ("digit" -> "4", "motion" -> "zoom in").
        classes: As in `truths`. A head with the name of a category takes its class; any other head takes the only class
            that is among its labels.
    """
    truth = {}
    for head, names in classes.items():
        labels = [found[head]] if head in found else found.values()
        places = {place for label in labels if (place := _place(label, names)) is not None}
        if len(places) == 1:
            truth[head] = places.pop()
    return truth


def _place(label: str, names: Sequence[str]) -> int | None:
    wanted = _plain(label)
    return next((place for place, name in enumerate(names) if _plain(name) == wanted), None)


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text).strip().casefold()


#: Suffixes of files in a folder that are read as videos; a video passed by path may have any name.
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3gp", "avi", "flv", "m2ts", "m4v", "mjpeg", "mkv", "mov", "mp4"),
        *("mpeg", "mpg", "mts", "ogv", "ts", "webm", "wmv", "y4m"),
    )
)

#: Suffixes of lists of clips, one per line.
LIST_SUFFIXES = frozenset({".txt", ".csv"})


@dataclass(frozen=True, slots=True)
class Source:
    """One of several clips."""

    #: Path or name that `zoo.clips.decode` accepts.
    path: str
    #: Name on the page; unique.
    name: str
    #: Label from the folder or list; None if unlabeled.
    label: str | None = None


def find(clip: str | os.PathLike[str], *, each: bool = False) -> list[Source] | None:
    """Return the clips that `clip` denotes, in natural order; None if it is a single clip.

    - A folder that contains only images is one clip, frame by frame, unless `each` treats every file as a clip.
    - Any other folder denotes its videos, tensor files, images and sub-folders. In a sub-folder (at any depth), clips
      are labeled with the name of the outermost one.
    - A list, FILE.txt or FILE.csv, contains `path` or `path,label` per line; paths are relative to the list. Lines that
      begin with # are skipped.
    - `sample:NAME/*` and other wildcards denote bundled samples.

    Raises:
        ClipError: for a folder or list without a clip, or a list that cannot be read.
        UnknownNameError: for a wildcard that no sample matches.
        UsageError: for `each` without a folder, a line of a list with more than two values, or a clip with two labels.
    """
    text = os.fspath(clip)
    path = Path(text).expanduser()
    if text.startswith("sample:"):
        found = _samples(text) if is_pattern(text) else None
    elif path.is_dir():
        found = _folder(path, each=each)
    elif path.suffix.lower() in LIST_SUFFIXES and path.is_file():
        found = _listed(path)
    else:
        found = None
    if each and not path.is_dir():
        raise UsageError(f"each file of a folder was asked for as a clip of its own, and {text} is no folder")
    return found


def _samples(pattern: str) -> list[Source]:
    known = samples()
    numbered = {name: sample for name, (sample, _) in known.items() if "/" in name}
    found = [name for name in numbered if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        raise UnknownNameError(
            "sample", pattern, known, "`zoo info MODEL` lists the samples of a model's plugin", pattern=True
        )
    return [Source(path=name, name=name) for name in found]


def _folder(root: Path, *, each: bool) -> list[Source] | None:
    found = list(_walk(root, set(), each=each))
    if found == [root]:
        return None
    if not found:
        raise ClipError(
            f"{root} holds no clips: expected videos ({', '.join(sorted(VIDEO_SUFFIXES))}), images "
            f"({', '.join(sorted(IMAGE_SUFFIXES))}), or folders of them"
        )
    sources = []
    for path in found:
        parts = path.relative_to(root).parts
        sources.append(Source(path=str(path), name="/".join(parts), label=parts[0] if parts[1:] else None))
    return sources


def _walk(folder: Path, seen: set[Path], *, each: bool) -> Iterator[Path]:
    """Iterate over the clips in a folder and its sub-folders; symbolic links may form cycles."""
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    entries = sorted(
        (entry for entry in folder.iterdir() if not entry.name.startswith(".")),
        key=lambda entry: natural(entry.name),
    )
    below = [clip for entry in entries if entry.is_dir() for clip in _walk(entry, seen, each=each)]
    files = [entry for entry in entries if entry.is_file()]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES or file.suffix == ".safetensors"]
    if images and not videos and not below and not each:
        yield folder
        return
    yield from sorted([*images, *videos], key=lambda file: natural(file.name))
    yield from below


def _listed(path: Path) -> list[Source]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ClipError(f"{path} is no list of clips: expected text in UTF-8, `path` or `path,label` a line") from error
    except OSError as error:
        raise ClipError(f"{path} cannot be read: {error.strerror}") from error
    found: dict[str, Source] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        values = _values(path.parent, line)
        if number == 1 and values[0].lower() == "path":
            continue
        if len(values) > 2 or not values[0]:
            raise UsageError(
                f"{path}, line {number}: expected `path` or `path,label`, got {line!r}; put quotes around a value that "
                "holds a comma"
            )
        name, label = values[0], (values[1] if values[1:] else "") or None
        before = found.get(name)
        if before is not None and before.label != label:
            raise UsageError(f"{path}, line {number}: {name} has two labels, {before.label!r} and {label!r}")
        place = name if name.startswith("sample:") else str(path.parent / Path(name).expanduser())
        found[name] = Source(path=place, name=name, label=label)
    if not found:
        raise ClipError(f"{path} names no clips; expected `path` or `path,label` a line")
    return _shortened(list(found.values()))


def _shortened(sources: list[Source]) -> list[Source]:
    """Shorten full paths to the part that distinguishes them."""
    if len(sources) < 2 or not all(Path(source.name).is_absolute() for source in sources):
        return sources
    shared = os.path.commonpath([Path(source.name).parent for source in sources])
    return [replace(source, name=Path(source.name).relative_to(shared).as_posix()) for source in sources]


def _values(folder: Path, line: str) -> list[str]:
    """Split a line into its values; a path may contain commas if such a file exists."""
    whole = line.strip()
    if "," in whole and (folder / Path(whole).expanduser()).exists():
        return [whole]
    return [value.strip() for value in next(csv.reader([whole], skipinitialspace=True))]
