from pathlib import Path

import pytest
import torch

from zoo.errors import OutputError
from zoo.writing import check_writable, write, write_tensors


def test_a_full_disk_is_an_error_and_leaves_the_file_before(tmp_path, full_disk):
    path = tmp_path / "checkpoint.safetensors"
    with path.open("wb") as file:
        file.write(b"before")
    with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.safetensors"):
        write_tensors(path, {"x": torch.zeros(1000)}, {})
    with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.safetensors"):
        write(path, "x" * 1000)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is Linux's")
def test_a_folder_that_takes_no_files_is_not_said_to_be_missing(tmp_path):
    with pytest.raises(OutputError, match="the folder /proc takes no files"):
        check_writable(Path("/proc/x.json"))
    with pytest.raises(OutputError, match="does not exist; make it first"):
        check_writable(tmp_path / "no" / "x.json")
