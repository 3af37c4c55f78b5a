"""Fixtures of the aether tests."""

import importlib.util
from pathlib import Path

import pytest


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
