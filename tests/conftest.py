"""Settings shared by all tests."""

import os

import pytest
import torch

# Small tensors: two threads cost more than they give, and results must not depend on the machine's cores. Nor
# in the processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# A worker takes a file at a time: the longest first, so that none of them is left for the end.
LONGEST = (
    "test_browser.py",
    "test_core_families.py",
    "test_core_server.py",
    "test_soak.py",
    "test_gpu.py",
    "test_server.py",
    "test_long_run.py",
    "test_core_templates.py",
    "test_long_ray.py",
    "test_compare.py",
    "test_long_clip.py",
    "test_benchmarks.py",
    "test_cli.py",
    "test_session.py",
    "test_lora.py",
    "test_sampling.py",
    "test_train.py",
    "test_tasks.py",
    "test_diffusers_families.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by how long they take; within a file nothing changes."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))
