"""The repository's root as ComfyUI's pack, as far as it can be tested without ComfyUI."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load(path: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_oldest_comfyui_is_the_same_everywhere():
    oldest = load(ROOT / "nodes" / "bridge" / "compat.py", "compat").OLDEST_COMFYUI
    registry = re.search(
        r'requires-comfyui = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert registry[1] == oldest


def test_the_root_needs_nothing_to_be_imported():
    code = "import sys, importlib; before = set(sys.modules); m = importlib.import_module('pack')\n"
    code += "print(m.WEB_DIRECTORY, callable(m.comfy_entrypoint), hasattr(m, 'NODE_CLASS_MAPPINGS'),"
    code += " sorted(name for name in set(sys.modules) - before if name.split('.')[0] in ('torch', 'pack')))"
    result = run_beside(code)
    assert result.stdout.split(maxsplit=3) == ["./web", "True", "False", "['pack']\n"], result.stderr
    assert (ROOT / "web").is_dir()


def run_beside(code: str) -> subprocess.CompletedProcess:
    """Run code where the root is a package called ``pack``."""
    start = "import importlib.util, sys\n"
    start += f"spec = importlib.util.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r},"
    start += f" submodule_search_locations=[{str(ROOT)!r}])\n"
    start += "class Finder:\n    def find_spec(self, name, *a): return spec if name == 'pack' else None\n"
    start += "sys.meta_path.insert(0, Finder())\n"
    return subprocess.run([sys.executable, "-I", "-c", start + code], capture_output=True, text=True)


@pytest.mark.slow
def test_our_nodes_are_never_taken_for_comfyuis():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import nodes"
    result = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert result.returncode == 1 and "not ComfyUI's module of that name" in result.stderr
