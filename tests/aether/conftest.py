"""Fixtures of the aether tests."""

import copy
import functools
import importlib.util
from pathlib import Path

import pytest

from aether import miniature


@functools.cache
def example(seed, *size, **options):
    return miniature.raycast.render(miniature.world.random_scene(seed), *size, **options)


@pytest.fixture(scope="module", autouse=True)
def examples():
    """Commands that are run in this process share ``synthetic:N``, which takes half of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(miniature, "random_scene", lambda seed: seed)
        patch.setattr(miniature, "render", lambda *seen, **options: copy.deepcopy(example(*seen, **options)))
        yield


@pytest.fixture(scope="session")
def tiny():
    """The module tiny.py: a small random model and inputs for it."""
    spec = importlib.util.spec_from_file_location("aether_tests_tiny", Path(__file__).with_name("tiny.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def model(tiny):
    """The small model. Nothing may change it."""
    return tiny.model()
