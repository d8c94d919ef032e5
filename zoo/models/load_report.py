"""What was done to load a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What `load` did; nothing is silent."""

    name: str
    #: Tag of the weights; None for random initialization.
    tag: str | None
    #: File the weights came from, its size and SHA-256.
    file: str | None
    bytes: int
    sha256: str | None
    #: How the weights were adapted ("inflate"); None if they fit as they are.
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
    #: Layers exchanged after building, where no argument of the builder says their size.
    replaced: tuple[str, ...] = ()
    #: Names in the file of what was left; in the model of what was taken as it is, adapted, and initialized.
    left_names: tuple[str, ...] = ()
    taken_names: tuple[str, ...] = ()
    adapted_names: tuple[str, ...] = ()
    initialised_names: tuple[str, ...] = ()
    #: SHA-256 of the tensors that were adapted or initialized, as they were then (`zoo.models.provenance.digest`).
    initial_sha256: str = ""
    #: Names of parameters and buffers that hold NaN or infinity.
    not_finite: tuple[str, ...] = ()
