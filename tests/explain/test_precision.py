"""What bfloat16 changes is told where it changes an answer, and nowhere else."""

import zoo
from explain.precision import changed

CLIP = "sample:blinking_mnist/3"


def test_a_changed_answer_is_told():
    model = zoo.load("conv3d", dtype="bfloat16")
    told = changed(model, CLIP, "conv3d", weights="default")
    said, meant = (
        zoo.predict(one, zoo.preprocess(CLIP, one), top=1)[0]["digit"]["top"][0]["label"]
        for one in (model, zoo.load("conv3d"))
    )
    assert said != meant
    assert f"digit {said} instead of {meant}" in told
    assert "bfloat16" in told
    assert "float32" in told


def test_an_answer_that_stays_is_not():
    assert not changed(zoo.load("conv2d", dtype="bfloat16"), CLIP, "conv2d", weights="default")
    assert not changed(zoo.load("conv3d", dtype="float32"), CLIP, "conv3d", weights="default")
