import pytest
import torch

from explain.model.layouts import to_display, to_input

SPEC = {"channels": "RGB", "range": (-1.0, 3.0), "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}


@pytest.mark.parametrize("layout", ["NCTHW", "NTCHW"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_a_model_s_input_and_back(nets, layout, channels):
    spec = nets.entry(layout, **{**SPEC, "channels": channels}).input
    clips = torch.rand(2, 3, 4, 5, 6)
    batch = to_input(clips, spec, layout)
    assert batch.shape == ((2, 3, 4, 5, 6) if layout == "NCTHW" else (2, 4, 3, 5, 6))
    assert torch.allclose(to_display(batch, spec, layout), clips)
    first = clips[0, 0 if channels == "RGB" else 2, 0]  # the model's first channel, first frame
    assert torch.allclose(batch[0, 0, 0], (-1.0 + 4.0 * first - 0.1) / 0.5)


def test_it_is_what_the_zoo_makes_of_the_frames(nets):
    from zoo.clips import normalize

    spec = nets.entry("NCTHW", **{**SPEC, "channels": "BGR"}).input
    frames = torch.randint(0, 256, (4, 6, 6, 3), dtype=torch.uint8)
    batch = normalize(frames, spec)  # frames are in the model's channels
    shown = frames.flip(-1).permute(3, 0, 1, 2).float() / 255
    assert torch.allclose(to_display(batch, spec, "NCTHW")[0].float(), shown, atol=1e-6)


def test_without_a_specification_each_sample_is_stretched_and_clips_are_taken_as_they_are():
    batch = torch.stack([torch.arange(8.0), torch.arange(8.0) * 5 - 3]).view(2, 1, 2, 4)
    shown = to_display(batch, None, "NCHW")
    assert shown.shape == (2, 1, 1, 2, 4)
    assert torch.allclose(shown[0], shown[1])
    assert (shown.min(), shown.max()) == (0, 1)
    assert torch.equal(to_display(torch.full((1, 1, 2, 2), 7.0), None, "NCHW"), torch.zeros(1, 1, 1, 2, 2))
    assert torch.equal(to_input(shown, None, "NCHW"), shown.squeeze(2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_of_16_bits_are_shown_in_32(nets, dtype):
    flat = torch.full((1, 3, 2, 4, 4), 0.5, dtype=dtype)
    assert torch.equal(to_display(flat, None, "NCTHW"), torch.zeros(1, 3, 2, 4, 4, dtype=torch.float32))
    spec = nets.entry("NCTHW", **SPEC).input
    batch = torch.randn(1, 3, 2, 4, 4).to(dtype)
    assert torch.equal(to_display(batch, spec, "NCTHW"), to_display(batch.float(), spec, "NCTHW"))
