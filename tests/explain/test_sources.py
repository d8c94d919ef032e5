"""What counts as many clips, and what each is called and labelled."""

from __future__ import annotations

from pathlib import Path

import pytest

from explain.sources import Source, find
from zoo.errors import ClipError, UnknownNameError, UsageError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def told(sources):
    return [(source.name, source.label) for source in sources]


def test_a_folder_of_images_is_one_clip(tmp_path):
    touch(tmp_path, "1.png", "2.jpg", "notes.txt")
    assert find(tmp_path) is None


def test_every_image_is_a_clip_where_that_is_asked_for(tmp_path):
    touch(tmp_path, "10.png", "2.jpg", "notes.txt", "cat/1.png")
    assert told(find(tmp_path, each=True)) == [("2.jpg", None), ("10.png", None), ("cat/1.png", "cat")]


def test_a_folder_of_videos_is_many(tmp_path):
    touch(tmp_path, "b.MP4", "a.avi", "README.md", ".hidden.mp4", "c.safetensors")
    assert told(find(tmp_path)) == [("a.avi", None), ("b.MP4", None), ("c.safetensors", None)]
    assert find(tmp_path)[0].path == str(tmp_path / "a.avi")


def test_images_beside_videos_are_clips(tmp_path):
    touch(tmp_path, "a.mp4", "b.png")
    assert told(find(tmp_path)) == [("a.mp4", None), ("b.png", None)]


def test_outermost_folders_are_labels_and_folders_of_images_are_clips(tmp_path):
    touch(tmp_path, "cat/x.mp4", "cat/deep/y.mp4", "dog/one/1.png", "dog/one/2.png", "dog/two/1.png", "loose/1.png")
    assert told(find(tmp_path)) == [
        ("cat/x.mp4", "cat"),
        ("cat/deep/y.mp4", "cat"),
        ("dog/one", "dog"),
        ("dog/two", "dog"),
        ("loose", None),
    ]


def test_empty_folders_beside_images_change_nothing(tmp_path):
    touch(tmp_path, "1.png")
    (tmp_path / "empty").mkdir()
    assert find(tmp_path) is None


def test_links_in_circles_end(tmp_path):
    touch(tmp_path, "cat/x.mp4")
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    assert told(find(tmp_path)) == [("cat/x.mp4", "cat")]


def test_a_folder_without_clips_says_what_it_looked_for(tmp_path):
    touch(tmp_path, "README.md")
    with pytest.raises(ClipError, match=r"holds no clips: expected videos \(\.3gp, \.avi.*images"):
        find(tmp_path)


def test_one_clip_of_any_kind_is_left_to_the_reader(tmp_path):
    touch(tmp_path, "a.mp4", "b.png")
    for clip in (tmp_path / "a.mp4", str(tmp_path / "b.png"), tmp_path / "absent.txt", "sample:blinking_mnist/3"):
        assert find(clip) is None


def test_each_is_for_folders(tmp_path):
    touch(tmp_path, "a.mp4")
    with pytest.raises(UsageError, match="is no folder"):
        find(tmp_path / "a.mp4", each=True)


def test_a_list_names_paths_relative_to_itself_and_labels(tmp_path):
    touch(tmp_path, "a,b.mp4")
    (tmp_path / "list.csv").write_text(
        "\ufeffpath,label\n# a remark\n\nx/a.mp4,cat\n  b.mp4 , dog\na,b.mp4\n/elsewhere/c.mp4\n"
        'sample:blinking_mnist/1,"digit 3, order 1-3-2-4"\n',
        encoding="utf-8",
    )
    assert find(tmp_path / "list.csv") == [
        Source(str(tmp_path / "x/a.mp4"), "x/a.mp4", "cat"),
        Source(str(tmp_path / "b.mp4"), "b.mp4", "dog"),
        Source(str(tmp_path / "a,b.mp4"), "a,b.mp4", None),
        Source("/elsewhere/c.mp4", "/elsewhere/c.mp4", None),
        Source("sample:blinking_mnist/1", "sample:blinking_mnist/1", "digit 3, order 1-3-2-4"),
    ]


def test_full_paths_are_called_by_what_tells_them_apart(tmp_path):
    (tmp_path / "list.txt").write_text("/far/away/a/1.mp4\n/far/away/b/1.mp4\n")
    assert [(source.name, source.path) for source in find(tmp_path / "list.txt")] == [
        ("a/1.mp4", "/far/away/a/1.mp4"),
        ("b/1.mp4", "/far/away/b/1.mp4"),
    ]


def test_a_clip_named_twice_counts_once_unless_its_labels_differ(tmp_path):
    (tmp_path / "same.txt").write_text("a.mp4,cat\na.mp4,cat\n")
    assert told(find(tmp_path / "same.txt")) == [("a.mp4", "cat")]
    (tmp_path / "other.txt").write_text("a.mp4,cat\na.mp4,dog\n")
    with pytest.raises(UsageError, match=r"line 2: a\.mp4 has two labels, 'cat' and 'dog'"):
        find(tmp_path / "other.txt")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"# nothing\n", ClipError, "names no clips"),
        (b"a.mp4,cat,0.3\n", UsageError, "line 1: expected `path` or `path,label`"),
        (b",cat\n", UsageError, "line 1: expected"),
        (b"\xff\xfe\x00", ClipError, "expected text in UTF-8"),
    ],
)
def test_a_list_that_is_none_says_so(tmp_path, content, error, message):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(error, match=message):
        find(tmp_path / "list.txt")


def test_a_wildcard_stands_for_samples():
    found = find("sample:blinking_mnist/*")
    assert [source.path for source in found] == [f"sample:blinking_mnist/{index}" for index in range(len(found))]
    assert len(found) > 1
    with pytest.raises(UnknownNameError, match="no sample matches 'sample:blinkink"):
        find("sample:blinkink/*")


def test_paths_are_what_the_reader_takes(tmp_path):
    touch(tmp_path, "x/a.mp4")
    assert all(Path(source.path).exists() for source in find(tmp_path))
