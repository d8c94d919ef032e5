"""Licenses by the identifiers of SPDX, and what the Hugging Face Hub calls them in the metadata of a card."""

from __future__ import annotations

import re
from typing import Final

from zoo.errors import UsageError, nearest

_HUB: Final = """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
    eupl-1.1 eupl-1.2 gemma gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2
    llama3.3 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openrail openrail++ osl-3.0 other pddl postgresql
    unknown unlicense wtfpl zlib
"""

#: Identifiers that the Hub takes as `license` (https://huggingface.co/docs/hub/repositories-licenses).
HUB: Final = frozenset(_HUB.split())

#: License families among these, which cover every version.
_FAMILIES: Final = ("gfdl", "odbl", "odc-by", "pddl")

_IDENTIFIER: Final = re.compile(r"[a-z0-9][a-z0-9.+-]*", re.IGNORECASE | re.ASCII)

_OPERATORS: Final = re.compile(r"\s+(?:AND|OR|WITH)\s+|[()]")


def on_hub(license_: str) -> tuple[str, str | None]:
    """Return the Hub's metadata of a license: `license`, and for "other" also `license_name`.

    Args:
        license_: An identifier of SPDX or of the Hub ("GPL-3.0-or-later", "cc-by-nc-4.0"), an expression of several
            ("MIT AND BSD-3-Clause"), or "LicenseRef-NAME" for one of its own.
    """
    if license_.startswith("LicenseRef-"):
        return "other", license_.removeprefix("LicenseRef-")
    slug = re.sub(r"[^a-z0-9.+]+", "-", license_.lower()).strip("-")
    plain = re.sub(r"-(only|or-later)$", "", slug)
    family = next((one for one in _FAMILIES if re.fullmatch(rf"{one}-[\d.]+", plain)), plain)
    return (family, None) if family in HUB else ("other", slug)


def check(license_: str) -> None:
    """Raise UsageError for a text that is neither an identifier nor known to the Hub."""
    parts = [part for part in _OPERATORS.split(license_) if part]
    if on_hub(license_)[0] == "other" and not (parts and all(map(_IDENTIFIER.fullmatch, parts))):
        near = nearest(re.sub(r"\s+", "-", license_), sorted(HUB))
        hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        raise UsageError(
            f"the license {license_!r} is no identifier{hint}; expected one of SPDX, such as Apache-2.0, one of the "
            "Hub (https://huggingface.co/docs/hub/repositories-licenses), or LicenseRef-NAME for one of your own"
        )
