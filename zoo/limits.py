"""Limits on what files, entries and repositories from elsewhere may ask for (SECURITY.md)."""

from __future__ import annotations

#: Maximum number of pixels of an input, over all frames (and channels, if these are not colors).
MOST_PIXELS = 2**28

#: Longest side, in pixels, that frames may be resized to before the crop.
LONGEST_SIDE = 2**14

LONGEST_INDEX = 2**24

#: Bytes of a file's header, which are taken for it before anything is known of it.
LONGEST_HEADER = 2**25

#: Tensors in a file, or in all shards of an index; each takes time, whatever it holds.
MOST_TENSORS = 2**17

#: Maximum characters of the JSON of overrides of an architecture's entry.
LONGEST_OVERRIDES = 2**20

#: Bytes of `config.json`.
LONGEST_CONFIG = 2**20

#: Bytes of a file whose size no entry states, such as golden tensors.
LARGEST_CARD = 2**30

LONGEST_NAME = 100
