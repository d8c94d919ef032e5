"""A genuine classifier from elsewhere: told by its checksum, read in its own normalisation, and right about photos."""

from __future__ import annotations

import pytest
import torch

import explain
import zoo
from explain.faithfulness.curves import Control
from explain.faithfulness.removal import Subject
from explain.faithfulness.verdicts import MARGIN, on_deletion
from explain.model.preservation import prepared

#: Rows and columns of the cat's eyes and nose in the middle of the photo, which its fur fills.
FACE = slice(50, 200), slice(45, 200)


@pytest.fixture(scope="module")
def file(test_data):
    return test_data / "weights" / "squeezenet1_1.imagenet.safetensors"


@pytest.fixture(scope="module")
def squeezenet(file):
    return zoo.load("squeezenet1_1", weights=file)


def test_its_own_normalisation_is_taken(squeezenet):
    spec = squeezenet.zoo_entry.input
    assert (spec.channels, spec.range, spec.size) == ("BGR", (0.0, 255.0), (227, 227))
    assert spec.mean == (103.939, 116.779, 123.68)
    assert squeezenet.zoo_weights.license == "MIT"
    assert squeezenet.zoo_load_report.tag == "imagenet_caffe"


def test_it_is_right_about_fourteen_of_twenty_photos(squeezenet, test_data):
    photos = sorted((test_data / "photos").glob("imagenet_*.jpg"))
    heads = [zoo.predict(squeezenet, zoo.preprocess(photo, squeezenet), top=1)[0].heads["output"] for photo in photos]
    right = [head.top[0].index == int(photo.stem.split("_")[2]) for head, photo in zip(heads, photos, strict=True)]
    assert (sum(right), len(right)) == (14, 20)


@pytest.fixture(scope="module")
def cat(squeezenet, test_data):
    return zoo.preprocess(test_data / "photos" / "chelsea.png", squeezenet)


@pytest.fixture(scope="module")
def maps(squeezenet, cat):
    methods = ["saliency", "input_x_gradient", "guided_grad_cam", "grad_cam"]
    found = explain.attribute(squeezenet, cat, method=methods)
    found.append(explain.attribute(squeezenet, cat, method="integrated_gradients", baseline="blur", n_steps=8))
    found.append(explain.attribute(squeezenet, cat, method="occlusion", window=(1, 60, 60), stride=(1, 30, 30)))
    found.append(explain.attribute(squeezenet, cat, method="rise", n_samples=96))
    return found


def test_a_cat_is_found(squeezenet, cat):
    (top,) = (head.record()["output"]["top"] for head in zoo.predict(squeezenet, cat, top=3))
    assert {one["label"] for one in top} == {"Egyptian cat", "tabby", "tiger cat"}
    assert sum(one["probability"] for one in top) > 0.98


def test_maps_lie_on_the_cats_face(maps):
    area = 150 * 155 / 227**2
    for found in maps:
        assert found.map.shape == (1, 1, 227, 227)
        assert found.time.shape == (1, 1)
        heat = found.map[0, 0].clamp(min=0)
        assert float(heat[FACE].sum() / heat.sum()) > area + 0.05, found.method


def test_removing_and_showing_what_maps_point_at_beats_chance_and_bad_maps_do_not(squeezenet, cat, maps):
    with prepared(squeezenet):
        control = Control(Subject(squeezenet, cat, maps[0].target, None), "spatial", 16, 20, seed=0, filled=True)
        for found in maps:
            curves = control.curves(found.map)
            word, sentence = on_deletion(curves, {})
            # Windows of 60 pixels find the face, but no better than removing the center of the photo, where it is.
            center = curves.area(curves.centre_deletion).mean() - MARGIN <= curves.area(curves.deletion).mean()
            assert bool(center) == (found.method == "occlusion")
            assert word == ("inconclusive" if center else "passes"), f"{found.method}: {sentence}"
            assert curves.area(curves.deletion) < curves.area(curves.random_deletion).mean() - 0.05, found.method
            assert curves.inserted_area(curves.insertion) > curves.inserted_area(curves.random_insertion).mean() + 0.05
        noise = torch.randn(1, 1, 227, 227, generator=torch.Generator().manual_seed(0))
        assert on_deletion(control.curves(noise), {})[0] != "passes"
        assert on_deletion(control.curves(-maps[0].map), {})[0] == "flagged"


def test_without_what_grad_cam_points_at_the_cat_is_gone(squeezenet, test_data):
    batch = zoo.preprocess(test_data / "photos" / "chelsea.png", squeezenet)
    order = explain.attribute(squeezenet, batch, method="grad_cam").map.flatten().argsort(descending=True)
    third = len(order) // 3

    def probability(blanked):
        holed = batch.flatten(2).clone()
        holed[:, :, blanked] = 0
        with torch.inference_mode():
            return float(squeezenet(holed.view_as(batch)).softmax(dim=1)[0, squeezenet(batch).argmax()])

    assert probability(order[:third]) < 0.1 * probability(order[-third:])
