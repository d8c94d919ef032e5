"""Labels of clips as classes of outputs."""

from __future__ import annotations

import pytest

from explain.truths import truths

CLASSES = {"digit": [str(digit) for digit in range(10)], "order": ["1-2", "2-1"], "thing": ["tabby cat", "Dog", "3"]}


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("7", {"digit": 7}),
        ("digit 7, order 2-1, 3 pixels per frame", {"digit": 7, "order": 1}),
        ("Tabby_Cat", {"thing": 0}),
        ("thing dog", {"thing": 1}),
        ("thing 3", {"thing": 2}),
        ("3", {"digit": 3}),
        ("digital 7", {}),
        ("cat", {}),
        ("", {}),
        (None, {}),
    ],
)
def test_a_label_names_a_class_or_outputs_and_classes(label, expected):
    assert truths(label, CLASSES) == expected
