from pathlib import Path

import pytest
import torch

from explain.model import memory
from explain.model.memory import MeasuredBytes, fitting, free_memory, in_parts, is_out_of_memory, within_memory
from zoo import devices
from zoo.errors import MemoryLimitError


def test_half_as_many_are_tried_each_time_memory_runs_out():
    tried = []

    def run(size):
        tried.append(size)
        if size > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return size

    assert within_memory(run, 20) == 2
    assert tried == [20, 10, 5, 2]


def test_what_a_failed_try_held_is_free_before_the_next():
    import weakref

    held = []

    def run(size):
        if held:
            assert held[0]() is None
        tensor = torch.zeros(4)
        held.append(weakref.ref(tensor))
        if size > 1:
            raise torch.OutOfMemoryError
        return size

    assert within_memory(run, 2) == 1


def test_where_one_is_too_many_the_message_says_what_and_why():
    def run(size):
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    with pytest.raises(MemoryLimitError, match=r"one clip: tried to allocate 2 GiB\. Use a smaller clip"):
        within_memory(run, 4, "one clip")


def test_parts_of_a_batch_are_halved_where_memory_runs_out_and_none_is_done_twice():
    tried = []

    def run(part):
        tried.append((part.start, part.stop))
        if part.stop - part.start > 3:
            raise torch.OutOfMemoryError
        return part

    parts = in_parts(run, 10, lambda last: 1 if last is None else 8)
    assert [(part.start, part.stop) for part in parts] == [(0, 1), (1, 3), (3, 5), (5, 7), (7, 9), (9, 10)]
    assert tried[:4] == [(0, 1), (1, 9), (1, 5), (1, 3)]
    assert tried[4:] == [(3, 5), (5, 7), (7, 9), (9, 10)]
    with pytest.raises(MemoryLimitError, match="one clip"):
        in_parts(lambda part: torch.empty(2**60), 2, lambda _: 2, "one clip")


def test_the_cpus_own_error_counts_and_others_do_not():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        within_memory(lambda size: (_ for _ in ()).throw(RuntimeError("shape mismatch")), 4)


def test_batches_are_cut_to_the_free_memory(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    assert fitting(100, cpu) == 5
    assert fitting(100, cpu, kept=2.0) == 2
    assert fitting(10_000, cpu) == 1
    assert fitting(0, cpu) == memory.LARGEST
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**40)
    assert fitting(memory.CPU_BLOCK / 3, cpu) == 3
    assert fitting(memory.CPU_BLOCK / 3, torch.device("cuda")) == memory.LARGEST


def test_free_memory_is_that_of_the_machine():
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50


def test_made_tensors_are_counted_and_views_are_not():
    x = torch.zeros(10, dtype=torch.float32)
    with MeasuredBytes() as measured:
        y = x + 1
        y.view(2, 5).t()
    assert measured.total == 40


def _process(folder, mounts, groups, files):
    """A process's folder in /proc, and control groups as files below `folder`."""
    for place, content in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(content)
    (folder / "mountinfo").write_text("".join(f"30 25 0:27 {mount}\n" for mount in mounts))
    (folder / "cgroup").write_text("".join(f"{group}\n" for group in groups))
    return devices.group_memory(folder)


def test_the_least_of_all_nested_groups_counts(tmp_path):
    mounts = ["/ / / rw - ext4 /dev/sda rw", f"/ {tmp_path}/fs rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"]
    files = {
        "fs/memory.stat": "",
        "fs/slurm/memory.max": "5000",
        "fs/slurm/memory.current": "2000",
        "fs/slurm/job_1/memory.max": "max",
        "fs/slurm/job_1/memory.current": "1000",
        "fs/slurm/job_1/step_0/memory.max": "9000",
        "fs/slurm/job_1/step_0/memory.current": "500",
        "fs/other/memory.max": "1",
        "fs/other/memory.current": "0",
    }
    assert _process(tmp_path, mounts, ["0::/slurm/job_1/step_0"], files) == 3000
    files["fs/slurm/job_1/memory.high"] = "1500"
    assert _process(tmp_path, mounts, ["0::/slurm/job_1/step_0"], files) == 500
    files["fs/slurm/job_1/memory.stat"] = "anon 600\ninactive_file 400\n"
    assert _process(tmp_path, mounts, ["0::/slurm/job_1/step_0"], files) == 900


def test_groups_of_the_first_version_count(tmp_path):
    mounts = [
        f"/ {tmp_path}/cpu rw - cgroup cgroup rw,cpu,cpuacct",
        f"/docker/abc {tmp_path}/memory rw master:17 - cgroup cgroup rw,memory",
    ]
    files = {
        "memory/memory.limit_in_bytes": "700",
        "memory/memory.usage_in_bytes": "300",
        "memory/memory.stat": "total_inactive_file 50\n",
        "memory/inner/memory.limit_in_bytes": str(2**63 - 4096),
        "memory/inner/memory.usage_in_bytes": "200",
        "cpu/memory.limit_in_bytes": "1",
        "cpu/memory.usage_in_bytes": "0",
    }
    groups = ["9:memory:/docker/abc/inner", "3:cpu,cpuacct:/docker/abc", "0::/"]
    assert _process(tmp_path, mounts, groups, files) == 450


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert devices.group_memory(tmp_path / "nothing") == 2**62
    assert _process(tmp_path, [f"/ {tmp_path}/fs rw - cgroup2 cgroup2 rw"], ["0::/../../elsewhere"], {}) == 2**62


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc is Linux's")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_the_limits_of_the_process_itself_count(preloaded, limit):
    code = (
        "import resource, torch; from explain.model.memory import free_memory;"
        "pages = open('/proc/self/statm').read().split();"
        f"used = 4096 * int(pages[{0 if limit == 'RLIMIT_AS' else 5}]);"
        f"resource.setrlimit(resource.{limit}, (used + 2**28, used + 2**28)); print(free_memory(torch.device('cpu')))"
    )
    assert 2**26 < int(preloaded(code=code).stdout) <= 2**28
