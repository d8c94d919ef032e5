import gzip
import hashlib
import http.server
import threading

import pytest
import torch

from zoo.errors import DataError
from zoo.training.data import mnist


def idx(values: torch.Tensor) -> bytes:
    """A compressed idx file of unsigned bytes, as MNIST's page describes it."""
    head = bytes((0, 0, 8, values.dim())) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return gzip.compress(head + values.to(torch.uint8).numpy().tobytes(), mtime=0)


@pytest.fixture
def small(monkeypatch):
    """Four small files under MNIST's names, and their sums in place of the published ones."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(256, (7, 28, 28), generator=generator, dtype=torch.uint8)
    labels = torch.arange(7, dtype=torch.uint8)
    contents = {name: idx(images if "images" in name else labels) for name in mnist.MD5}
    monkeypatch.setattr(mnist, "MD5", {name: hashlib.md5(data).hexdigest() for name, data in contents.items()})
    mnist._read.cache_clear()
    yield contents
    mnist._read.cache_clear()


@pytest.fixture
def mirror(tmp_path):
    """A folder served on loopback, and its address."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def copyfile(self, source, outputfile):
            content = source.read()  # below cut/ the connection ends in mid-file
            outputfile.write(content[: len(content) // 2] if self.path.startswith("/cut/") else content)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def test_the_published_files_are_read(test_data):
    train, test = (mnist.read(split, folder=test_data / "mnist") for split in ("train", "test"))
    assert train.images.shape == (60_000, 28, 28)
    assert test.images.shape == (10_000, 28, 28)
    assert train.images.dtype == torch.uint8
    # counts of the classes, as published with the database
    assert train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_images_and_labels_are_read_as_written(small, tmp_path):
    for name, content in small.items():
        (tmp_path / name).write_bytes(content)
    found = mnist.read("test", folder=tmp_path)
    raw = gzip.decompress(small["t10k-images-idx3-ubyte.gz"])[16:]
    assert bytes(found.images.flatten().tolist()) == raw
    assert found.labels.tolist() == list(range(7))


def test_a_missing_file_is_named_with_the_command_that_fetches_it(tmp_path):
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is missing.*zoo data mnist"):
        mnist.read("train", folder=tmp_path)


IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"

#: How a file can be wrong, from the four right ones.
DAMAGES = {
    "no gzip": (LABELS, lambda files: b"half a file"),
    "empty": (LABELS, lambda files: b""),
    "truncated": (IMAGES, lambda files: files[IMAGES][:-100]),
    "unpacked": (IMAGES, lambda files: gzip.decompress(files[IMAGES])),
    "wrong magic": (LABELS, lambda files: gzip.compress(b"\1" + gzip.decompress(files[LABELS])[1:])),
    "wrong size": (IMAGES, lambda files: gzip.compress(gzip.decompress(files[IMAGES])[:-28])),
    "fewer labels than images": (LABELS, lambda files: idx(torch.arange(6))),
    "images for labels": (LABELS, lambda files: files[IMAGES]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(small, tmp_path, damage):
    for name, content in small.items():
        (tmp_path / name).write_bytes(content)
    name, content = DAMAGES[damage]
    (tmp_path / name).write_bytes(content(small))
    with pytest.raises(DataError, match=rf"{name} is not the published file.*zoo data mnist"):
        mnist.read("test", folder=tmp_path)


def test_a_file_that_cannot_be_read_is_named(small, tmp_path):
    (tmp_path / IMAGES).mkdir()
    with pytest.raises(DataError, match=rf"MNIST cannot be read: .*{IMAGES}: Is a directory"):
        mnist.read("test", folder=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Not a directory"):
        mnist.read("test", folder=tmp_path / "file")


def test_zoo_data_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert mnist.data_folder() == tmp_path
    with pytest.raises(DataError, match=str(tmp_path / "mnist")):
        mnist.read("test")


def test_without_zoo_data_it_is_the_users_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("ZOO_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert mnist.data_folder() == tmp_path / "motion-zoo"


def test_no_test_or_validation_digit_is_a_training_digit(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))
    splits = {name: mnist.read_part(name) for name in ("train", "validation", "test")}
    assert {name: len(split.labels) for name, split in splits.items()} == {
        "train": 55_000,
        "validation": 5_000,
        "test": 10_000,
    }
    images = {name: {bytes(image) for image in split.images.flatten(1).numpy()} for name, split in splits.items()}
    assert images["train"].isdisjoint(images["test"])
    assert images["train"].isdisjoint(images["validation"])
    assert images["validation"].isdisjoint(images["test"])


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match="train, validation or test"):
        mnist.read_part("dev")


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="train or test"):
        mnist.read("valid")


def test_download_fetches_what_is_missing_or_damaged(small, mirror, tmp_path):
    served, address = mirror
    for name, content in small.items():
        (served / name).write_bytes(content)
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(small["t10k-labels-idx1-ubyte.gz"])
    lines = []
    assert mnist.download(folder, mirrors=(address,), report=lines.append) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == small
    assert "t10k-labels-idx1-ubyte.gz: already there" in lines
    assert "train-labels-idx1-ubyte.gz: downloaded" in lines


def test_a_second_mirror_is_tried_and_a_wrong_file_is_never_kept(small, mirror, tmp_path):
    served, address = mirror
    (served / "bad").mkdir()
    for name, content in small.items():
        (served / name).write_bytes(content)
        (served / "bad" / name).write_bytes(b"something else")
    folder = mnist.download(tmp_path / "good", mirrors=(address + "bad/", address))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == small
    with pytest.raises(DataError, match="not the published file"):
        mnist.download(tmp_path / "wrong", mirrors=(address + "bad/",))
    assert list((tmp_path / "wrong").iterdir()) == []


def test_a_connection_cut_in_mid_file_leads_to_the_second_mirror(small, mirror, tmp_path):
    served, address = mirror
    (served / "cut").mkdir()
    for name, content in small.items():
        (served / name).write_bytes(content)
        (served / "cut" / name).write_bytes(content)
    folder = mnist.download(tmp_path / "good", mirrors=(address + "cut/", address))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == small
    with pytest.raises(DataError, match=r"cannot download .*/cut/: the connection broke after"):
        mnist.download(tmp_path / "none", mirrors=(address + "cut/",))


def test_without_a_network_the_download_says_so(tmp_path):
    with pytest.raises(DataError, match=r"cannot download train-images-idx3-ubyte\.gz: http://127\.0\.0\.1:9/"):
        mnist.download(tmp_path, mirrors=("http://127.0.0.1:9/",))


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write MNIST"):
        mnist.download(tmp_path / "file" / "mnist", mirrors=())
