import pytest
import torch

from explain.attribution.baselines import make_baseline
from zoo.entries import InputSpec
from zoo.errors import UnknownNameError, UsageError

BATCH = torch.arange(2 * 3 * 4 * 8 * 8, dtype=torch.float64).reshape(2, 3, 4, 8, 8)


def test_none_zero_and_numbers_fill():
    assert make_baseline(None, BATCH, "NCTHW", None).eq(0).all()
    assert make_baseline("zero", BATCH, "NCTHW", None).eq(0).all()
    assert make_baseline(-0.5, BATCH, "NCTHW", None).eq(-0.5).all()


def test_tensors_are_broadcast_and_not_shared():
    one = torch.ones(1, 3, 1, 1, 1)
    baseline = make_baseline(one, BATCH, "NCTHW", None)
    assert baseline.shape == BATCH.shape
    assert baseline.dtype == BATCH.dtype
    with pytest.raises(UsageError, match=r"\(7,\)"):
        make_baseline(torch.ones(7), BATCH, "NCTHW", None)


def test_black_is_what_zero_becomes_in_the_models_units():
    spec = InputSpec(frames=4, size=(8, 8), range=(0.0, 255.0), mean=(104.0, 117.0, 123.0), std=(1.0, 2.0, 1.0))
    black = make_baseline("black", BATCH, "NCTHW", spec)
    assert black[1, :, 3, 5, 5].tolist() == [-104.0, -58.5, -123.0]
    turned = make_baseline("black", BATCH.transpose(1, 2), "NTCHW", spec)
    assert torch.equal(turned.transpose(1, 2), black)
    with pytest.raises(UsageError, match="input specification"):
        make_baseline("black", BATCH, "NCTHW", None)


def test_mean_frame_has_no_motion():
    frozen = make_baseline("mean_frame", BATCH, "NCTHW", None)
    assert torch.allclose(frozen, BATCH.mean(dim=2, keepdim=True).expand_as(BATCH))
    turned = make_baseline("mean_frame", BATCH.transpose(1, 2), "NTCHW", None)
    assert torch.allclose(turned.transpose(1, 2), frozen)


def test_blur_keeps_even_frames_and_time_and_takes_detail_away():
    even = torch.full((1, 1, 2, 8, 8), 0.3)
    assert torch.allclose(make_baseline("blur", even, "NCTHW", None), even)
    noise = torch.rand(1, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    blurred = make_baseline("blur", noise, "NCTHW", None)
    assert blurred.std() < 0.2 * noise.std()
    still = noise[:, :, :1].expand(-1, -1, 3, -1, -1)
    assert torch.allclose(make_baseline("blur", still, "NCTHW", None)[:, :, 0], blurred[:, :, 0])


def test_unknown_names_are_told():
    with pytest.raises(UnknownNameError, match="'black'"):
        make_baseline("blak", BATCH, "NCTHW", None)
