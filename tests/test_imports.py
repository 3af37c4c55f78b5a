"""Who may import whom, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server", "execution"}
# The command line is where the two libraries meet.
MEETING_PLACES = {"aether/cli/hero.py", "aether/cli/model.py", "aether/cli/parser.py"}


def modules_imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # A relative import that leaves its own package names a sibling package.
            outside = node.level == 0 or node.level >= len(path.relative_to(ROOT).parts)
            found.add((node.module or "").partition(".")[0] if outside else "")
    return found


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("package, other", [("hero_engine", "aether"), ("aether", "hero_engine")])
def test_the_libraries_know_neither_each_other_nor_comfyui(package, other):
    for path in files(package):
        forbidden = set(COMFYUI)
        if path.relative_to(ROOT).as_posix() not in MEETING_PLACES:
            forbidden.add(other)
        assert not modules_imported(path) & forbidden, path


@pytest.mark.parametrize("package", ["hero_engine", "aether"])
def test_own_modules_are_imported_relatively(package):
    for path in files(package):
        assert package not in modules_imported(path), path


@pytest.mark.parametrize("package", ["hero_engine", "aether"])
def test_importing_loads_nothing_heavy(package):
    heavy = ["diffusers", "transformers", "av", "matplotlib", "scipy", "plyfile"]
    code = f"import sys, {package}; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_both_work_inside_another_package(tmp_path):
    """ComfyUI loads the repository's root as one package, under a name of its own."""
    (tmp_path / "pack").symlink_to(ROOT, target_is_directory=True)
    code = """
import importlib.util, sys
for name in ("hero_engine", "aether"):
    spec = importlib.util.spec_from_file_location(f"somewhere_{name}", f"pack/{name}/__init__.py",
        submodule_search_locations=[f"pack/{name}"])
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
import somewhere_hero_engine.session, somewhere_aether.sampling
assert "hero_engine" not in sys.modules and "aether" not in sys.modules
"""
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert result.returncode == 0, result.stderr
