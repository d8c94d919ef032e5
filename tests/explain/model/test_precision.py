"""What bfloat16 changes is told where it changes an answer, and nowhere else."""

import torch

import zoo
from explain.reporting.reading import changed
from zoo.models.prediction import outputs

CLIP = "sample:blinking_mnist/3"


def test_a_changed_answer_is_told():
    model = zoo.load("conv3d", dtype="bfloat16")
    told = changed(model, CLIP, "conv3d", weights="default")
    said, meant = (
        zoo.predict(one, zoo.preprocess(CLIP, one), top=1)[0].record()["digit"]["top"][0]["label"]
        for one in (model, zoo.load("conv3d"))
    )
    assert said != meant
    assert f"digit {said} instead of {meant}" in told
    assert "bfloat16" in told
    assert "float32" in told


def test_an_answer_that_stays_is_not():
    assert not changed(zoo.load("conv2d", dtype="bfloat16"), CLIP, "conv2d", weights="default")
    assert not changed(zoo.load("conv3d", dtype="float32"), CLIP, "conv3d", weights="default")


def test_a_clip_that_changes_is_told_and_one_that_does_not_is_not():
    sequences = "sample:digit_sequences/0"
    model = zoo.load("sequence_convlstm_k16", dtype="bfloat16")
    assert not changed(model, sequences, "sequence_convlstm_k16", weights="default")
    with torch.no_grad():
        model.head.bias.add_(1.0)
    exact, moved = (
        outputs(one, zoo.preprocess(sequences, one))["output"].double()
        for one in (zoo.load("sequence_convlstm_k16"), model)
    )
    share = 100 * float((moved - exact).norm() / exact.norm())
    told = changed(model, sequences, "sequence_convlstm_k16", weights="default")
    assert f"output off by {share:.0f} %" in told
