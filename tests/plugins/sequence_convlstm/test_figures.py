import torch

from zoo_sequence_convlstm import data, figures


def test_the_figures_show_the_data_and_are_the_same_each_time(mnist, tmp_path, monkeypatch):
    first = figures.save(tmp_path / "first")
    assert [path.name for path in first] == ["figure3.svg", "figure4.svg", "figure5.svg"]
    monkeypatch.setattr(figures, "FIGURES", {"figure5": figures.noises})
    (again,) = figures.save(tmp_path / "again")
    assert again.read_bytes() == first[2].read_bytes()
    found = data.find_outliers(data.scaled("N6")[0])
    said = f"{int(found.found.sum())} outliers, in {int(found.sequences.sum())} sequences"
    assert said in first[1].read_text()


def test_outliers_are_drawn_apart_and_every_change_is_there(mnist):
    usual, strange = figures.outliers().axes[0].lines
    found = data.find_outliers(data.scaled("N6")[0])
    assert len(usual.get_xdata()) + len(strange.get_xdata()) == 400 * 12
    assert len(strange.get_xdata()) == int(found.found.sum())
    assert usual.get_xdata()[0] == float(found.components[~found.found][0, 0])


def test_noise_grows_from_row_to_row():
    frame = torch.full((36, 36), 0.4)
    axes = figures.noises(frame).axes
    for column in range(3):
        spread = [float(one.images[0].get_array().std()) for one in axes[5 * column : 5 * column + 5]]
        assert spread == sorted(spread)
        assert spread[0] == 0
        assert spread[-1] > 0.2
