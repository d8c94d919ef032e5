"""Labels of clips as classes of outputs."""

from __future__ import annotations

import pytest

from explain.sources import shown, truths

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


MOTIONS = ["zoom in", "zoom out", "still"]


@pytest.mark.parametrize(
    ("found", "classes", "expected"),
    [
        ({"digit": "4", "motion": "zoom in"}, {"output": MOTIONS}, {"output": 0}),
        ({"digit": "4", "motion": "zoom in"}, {"output": list("0123456789")}, {"output": 4}),
        (
            {"digit": "4", "motion": "still"},
            {"digit": list("0123456789"), "motion": MOTIONS},
            {"digit": 4, "motion": 2},
        ),
        ({"digit": "4"}, {"output": MOTIONS}, {}),
        ({"digit": "4", "order": "1"}, {"output": list("0123456789")}, {}),  # which of the two is not said
        ({"digit": "4", "order": "4"}, {"output": list("0123456789")}, {"output": 4}),
        ({"digit": "12"}, {"digit": list("0123456789")}, {}),
        ({}, {"output": MOTIONS}, {}),
    ],
)
def test_classes_of_samples_are_those_of_outputs(found, classes, expected):
    assert shown(found, classes) == expected


def test_the_classes_of_every_bundled_sample_agree_with_its_label():
    """And most samples of a model of classes have a true class of its own."""
    from zoo.registry import catalog

    models = 0
    for listing in catalog.listings():
        entry = listing.entry
        for sample in entry.samples:
            assert len(sample.classes) in {0, len(sample.labels)}
            for label, found in zip(sample.labels, sample.classes, strict=False):
                for value in found.values():
                    assert value in label
        classes = {one.name: one.labels for one in entry.outputs if one.kind == "classes" and one.labels}
        for sample in entry.samples if classes else ():
            known = [shown(found, classes) for found in sample.classes]
            assert sum(set(one) == set(classes) for one in known) >= 0.8 * len(sample.labels), entry.name
            models += 1
    assert models >= 4
