"""What all tests share: a cache of their own, and the folder of real data."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# `pytest --hypothesis-profile=long tests/fuzzing` looks for what the suite has no time for, each time elsewhere.
_EVERYWHERE = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("suite", derandomize=True, max_examples=50, **_EVERYWHERE)
settings.register_profile("long", max_examples=5000, print_blob=True, **_EVERYWHERE)
settings.load_profile("suite")

# Tensors of tests are small: a second thread costs more than it computes, and much more beside another process. Torch
# reads this when it is first imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The Hub's library reads these when it is first imported: no token or setting of the user's, and no uploads by another
# way than a server on loopback takes.
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-home-")
os.environ["HF_HUB_DISABLE_XET"] = "1"
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)

#: Real clips, photos and MNIST for tests; absent on most machines.
TEST_DATA = Path(os.environ.get("ZOO_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    if not TEST_DATA.is_dir():
        pytest.skip(f"no real data at {TEST_DATA}; say where it is with ZOO_TEST_DATA")
    return TEST_DATA


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Checksums remembered by tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory, own_cache):
    """Runs code as `python -c` does, in forks of a process that has imported torch, zoo and explain."""
    spec = importlib.util.spec_from_file_location("preloaded", Path(__file__).with_name("preloaded.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    process = module.Preloaded(tmp_path_factory.mktemp("preloaded"))
    yield process
    process.close()
