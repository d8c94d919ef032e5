import platform
import subprocess
import sys

import pytest

ALLOCATE = """
import resource, sys
import torch
from zoo import devices

if "keep" in sys.argv:
    devices.keep_freed_memory()
def allocate(times):
    for _ in range(times):
        torch.ones(2**23)

allocate(40)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
allocate(10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*arguments):
    """Pages mapped while tensors of 32 MB are made and freed ten times, in a process that has done so for a while."""
    command = [sys.executable, "-c", ALLOCATE, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_freed_memory_is_kept_where_asked():
    assert faults("keep") < 8_192  # one tensor's pages
