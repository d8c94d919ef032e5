from types import SimpleNamespace

from explain.reporting.topics.prediction import build_clips


def clip(truth, order):
    """A clip whose label names the class `truth`, and for which the model finds classes likely in that order."""
    top = [{"index": index, "label": NAMES[index], "probability": 1 / (place + 2)} for place, index in enumerate(order)]
    return SimpleNamespace(
        truth={"bird": truth},
        said={"bird": order[0]},
        right=order[0] == truth,
        score=0.5,
        label="",
        record={"heads": {"bird": {"kind": "classes", "top": top}}},
    )


NAMES = ["crane", *map(str, range(1, 11)), "crane"]


def test_classes_of_one_name_are_told_apart_among_the_five_likeliest():
    entries = [
        clip(0, [1, 2, 3, 4, 11]),
        clip(0, [1, 2, 3, 4, 0]),
        clip(11, [11, 1, 2, 3, 4]),
        clip(2, [3, 4, 5, 6, 7]),
    ]
    collection = SimpleNamespace(
        entries=entries, classes={"bird": NAMES}, head="bird", failed=[], groups=lambda: ("", []), known=entries
    )
    found = build_clips(collection).data["heads"]["bird"]
    assert (found["accuracy"]["hits"], found["top5"]["hits"], found["top5"]["clips"]) == (1, 2, 4)
