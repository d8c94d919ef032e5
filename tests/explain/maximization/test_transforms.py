import torch

from explain.maximization.transforms import jitter


def test_jitter_moves_all_clips_alike_by_a_frame_and_a_sixteenth_at_most():
    clips = torch.zeros(2, 1, 5, 32, 48)
    clips[:, :, 2, 16, 24] = 1
    seen = set()
    for seed in range(200):
        moved = jitter(clips, torch.Generator().manual_seed(seed))
        assert torch.equal(moved[0], moved[1])
        seen.add(tuple(moved[0, 0].nonzero()[0].tolist()))
    times, rows, columns = (sorted(set(values)) for values in zip(*seen, strict=True))
    assert times == [1, 2, 3]
    assert rows == list(range(14, 19))
    assert columns == list(range(21, 28))


def test_jitter_leaves_single_frames_and_small_images_where_they_are():
    clips = torch.rand(1, 3, 1, 8, 8)
    assert torch.equal(jitter(clips, torch.Generator().manual_seed(0)), clips)
