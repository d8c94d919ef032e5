"""Training recipes of the networks. Data only; `training.py` and `evaluation.py` describe the parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from zoo.entries.recipes import OPTIMIZERS, Recipe, Search, Span, Stage

_HERE = "zoo_sequence_convlstm"

#: The four training sets: whether targets are denoised, and whether sequences with outliers are removed.
TRAINING_SETS: Final[dict[str, tuple[bool, bool]]] = {
    "base": (False, False),
    "denoised": (True, False),
    "removed_outliers": (False, True),
    "fully_processed": (True, True),
}
#: Epochs of the report's training runs, and windows of one, of 400 sequences.
EPOCHS: Final = 20
WINDOWS: Final = 4_000

#: Search space of the report (section 3.3). It does not specify how rates are drawn, nor among which optimizers.
SEARCH: Final = Search(
    space={
        "arguments.activation": Span(choices=("relu", "tanh")),
        "arguments.layers": Span(low=1, high=7),
        "arguments.kernels": Span(low=1, high=100),
        "windows.learning_rate": Span(low=1e-5, high=0.1, log=True),
        "windows.batch_size": Span(low=32, high=256),
        "windows.optimizer": Span(choices=OPTIMIZERS),
        "windows.arguments.training_set": Span(choices=tuple(TRAINING_SETS)),
    },
    metrics=("N6 squared error", "N3 squared error"),
    compared="windows.arguments.training_set",
)
#: The same for small machines.
SMALL_SEARCH: Final = replace(
    SEARCH,
    space={
        **SEARCH.space,
        "arguments.layers": Span(low=1, high=3),
        "arguments.kernels": Span(low=1, high=16),
    },
)

_SUMMARIES = {
    "base": "N6 as it is",
    "denoised": "N6 with denoised targets",
    "removed_outliers": "N6 without sequences that change like no other",
    "fully_processed": "N6 without sequences that change like no other, with denoised targets",
}


def _recipe(
    architecture: str,
    tag: str,
    *,
    arguments: dict[str, Any],
    header: dict[str, Any],
    batch_size: int,
    learning_rate: float,
    optimizer: str,
    final_rate: float = 1.0,
    autocast: bool = True,
    search: Search = SEARCH,
) -> Recipe:
    """Return the recipe on the windows of one training set."""
    return Recipe(
        name=f"{architecture}.{tag}",
        summary=_SUMMARIES[tag],
        build=f"{_HERE}.networks:build",
        evaluate=f"{_HERE}.evaluation:evaluate",
        arguments=arguments,
        header={"arguments": header} if header else {},
        seed=1,
        search=search,
        stages=(
            Stage(
                name="windows",
                steps=round(EPOCHS * WINDOWS / batch_size),
                batch_size=batch_size,
                learning_rate=learning_rate,
                final_rate=final_rate,
                optimizer=optimizer,
                data=f"{_HERE}.training:windows",
                loss=f"{_HERE}.training:loss",
                autocast=autocast,
                recalibration=20,
                arguments={"training_set": tag},
            ),
        ),
    )


#: Table 1 of the report: training set, batch size, activation, layers, kernels, learning rate, optimizer.
_TABLE = (
    ("denoised", 254, "relu", 4, 71, 0.004778, "Adamax"),
    ("base", 224, "tanh", 5, 10, 0.03719, "RAdam"),
    ("removed_outliers", 214, "relu", 4, 42, 0.0010676, "Adamax"),
    ("fully_processed", 216, "relu", 4, 41, 0.004656, "Adam"),
)
#: Arguments of the architecture's entry, those of the best row.
ARGUMENTS: Final[dict[str, Any]] = {"layers": 4, "kernels": 71, "activation": "relu"}
SMALL: Final[dict[str, Any]] = {"layers": 2, "kernels": 16, "activation": "relu"}


def _row(
    tag: str, batch_size: int, activation: str, layers: int, kernels: int, learning_rate: float, optimizer: str
) -> Recipe:
    arguments = {"layers": layers, "kernels": kernels, "activation": activation}
    return _recipe(
        "sequence_convlstm",
        tag,
        arguments=arguments,
        header={} if arguments == ARGUMENTS else arguments,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
    )


RECIPES: tuple[Recipe, ...] = (
    *(_row(*row) for row in _TABLE),
    *(
        _recipe(
            "sequence_convlstm_k16",
            tag,
            arguments=SMALL,
            header={},
            batch_size=32,
            learning_rate=0.004778,
            optimizer="Adamax",
            final_rate=0.0,
            autocast=False,
            search=SMALL_SEARCH,
        )
        for tag in ("denoised", "base", "removed_outliers", "fully_processed")
    ),
)
