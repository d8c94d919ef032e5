import pytest
import torch

from explain import budget
from explain.budget import MeasuredBytes, fitting, free_memory, in_parts, is_out_of_memory, within_memory
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
    monkeypatch.setattr(budget, "free_memory", lambda device: 1000)
    assert fitting(100, cpu) == 5
    assert fitting(100, cpu, kept=2.0) == 2
    assert fitting(10_000, cpu) == 1
    assert fitting(0, cpu) == budget.LARGEST
    monkeypatch.setattr(budget, "free_memory", lambda device: 2**40)
    assert fitting(budget.CPU_BLOCK / 3, cpu) == 3
    assert fitting(budget.CPU_BLOCK / 3, torch.device("cuda")) == budget.LARGEST


def test_free_memory_is_that_of_the_machine():
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50


def test_made_tensors_are_counted_and_views_are_not():
    x = torch.zeros(10, dtype=torch.float32)
    with MeasuredBytes() as measured:
        y = x + 1
        y.view(2, 5).t()
    assert measured.total == 40
