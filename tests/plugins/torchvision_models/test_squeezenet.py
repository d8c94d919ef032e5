"""A genuine classifier from elsewhere: told by its checksum, read in its own normalisation, and right about photos."""

from __future__ import annotations

import pytest
import torch

import explain
import zoo


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
    assert squeezenet.zoo_weights.licence == "MIT"
    assert squeezenet.zoo_load_report.tag == "imagenet_caffe"


def test_it_is_right_about_fourteen_of_twenty_photos(squeezenet, test_data):
    photos = sorted((test_data / "photos").glob("imagenet_*.jpg"))
    heads = [zoo.predict(squeezenet, zoo.preprocess(photo, squeezenet), top=1)[0]["output"] for photo in photos]
    right = [
        head["top"][0]["index"] == int(photo.stem.split("_")[2]) for head, photo in zip(heads, photos, strict=True)
    ]
    assert (sum(right), len(right)) == (14, 20)


def test_methods_find_the_cat_in_the_one_frame(squeezenet, test_data):
    batch = zoo.preprocess(test_data / "photos" / "chelsea.png", squeezenet)
    assert "cat" in zoo.predict(squeezenet, batch, top=1)[0]["output"]["top"][0]["label"]
    methods = ["saliency", "grad_cam", "grad_cam_per_frame"]
    for result in explain.attribute(squeezenet, batch, method=methods):
        assert result.map.shape == (1, 1, 227, 227)
        assert result.time.shape == (1, 1)


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
