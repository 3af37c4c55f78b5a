"""Who may import whom, and what importing costs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server", "execution"}
# The command line is where the two libraries meet.
MEETING_PLACE = "aether/cli/"


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
        if not path.relative_to(ROOT).as_posix().startswith(MEETING_PLACE):
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
import somewhere_hero_engine.session, somewhere_aether.generation.sampling
assert "hero_engine" not in sys.modules and "aether" not in sys.modules
"""
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    result = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert result.returncode == 0, result.stderr


PACKAGES = ("hero_engine", "aether", "nodes", "evaluation", "benchmarks", "training")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in files(package)
}


def imports_of(module: str) -> Iterator[str]:
    """The project's modules that a module imports: anywhere in it, and for types only, too."""
    path = MODULES[module]
    package = path.parent.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join((*above, *filter(None, [node.module])))
            for alias in node.names:
                names = (f"{origin}.{alias.name}", origin)
                yield from [name for name in names if name in MODULES][:1]


def room_of(module: str) -> str:
    """The folder that a module lies in, or itself where that is a package's own."""
    parts = MODULES[module].relative_to(ROOT).parts
    return ".".join(parts[:2]) if len(parts) > 2 else module


def circle(graph: dict[str, set[str]]) -> str:
    """One of the graph's circles in words, empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " <- ".join(error.args[1])
    return ""


GRAPH = {module: set(imports_of(module)) - {module} for module in MODULES}


def test_no_file_imports_in_a_circle():
    assert not circle(GRAPH)
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_imports_between_rooms_run_one_way():
    rooms: dict[str, set[str]] = {}
    for module, imported in GRAPH.items():
        rooms.setdefault(room_of(module), set()).update(map(room_of, imported))
    assert not circle({room: others - {room} for room, others in rooms.items()})
    assert len(rooms) > 60
