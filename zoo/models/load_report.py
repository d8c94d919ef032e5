"""Reports of how models were loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Everything that `load` did, without silent changes."""

    name: str
    #: Tag of the weights; None for random initialization.
    tag: str | None
    #: File the weights came from, its size and SHA-256.
    file: str | None
    bytes: int
    sha256: str | None
    #: Adaptation of the weights ("inflate"); None if they fit unchanged.
    adapt: str | None
    #: Tensors of the file: taken; of those, changed in dtype on the way, and adapted; left unused.
    taken: int
    converted: int
    adapted: int
    left: int
    #: Tensors of the model that are not from the file, but as its builder makes them.
    initialised: int
    parameters: int
    device: str
    dtype: str
    #: Numbers asked for that differ from the architecture's: classes by head, input channels.
    num_classes: dict[str, int] | None
    in_channels: int | None
    #: "meta": parameters held no memory until the file was mapped; "ordinary": the builder could not run so.
    build: str
    #: Why the build was ordinary; empty otherwise.
    build_reason: str = ""
    #: Layers replaced after building, for which the builder has no argument.
    replaced: tuple[str, ...] = ()
    #: Names of skipped tensors of the file; of loaded, adapted and initialized tensors of the model.
    left_names: tuple[str, ...] = ()
    taken_names: tuple[str, ...] = ()
    adapted_names: tuple[str, ...] = ()
    initialised_names: tuple[str, ...] = ()
    #: SHA-256 of the adapted or initialized tensors at loading time (`zoo.models.provenance.digest`).
    initial_sha256: str = ""
    #: Names of parameters and buffers that hold NaN or infinity.
    not_finite: tuple[str, ...] = ()
