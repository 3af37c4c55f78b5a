"""What the registry's archive holds is a whole pack."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_MB = 60
LOADED = """
import asyncio, importlib.util, sys
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
root, place = sys.argv[2], importlib.util.spec_from_file_location
spec = place("installed", f"{root}/__init__.py", submodule_search_locations=[root])
sys.modules["installed"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
extension = asyncio.run(module.comfy_entrypoint())
print(*[node.define_schema().node_id for node in asyncio.run(extension.get_node_list())])
"""


def listed(*options: str) -> set[str]:
    found = subprocess.run(
        ["git", "ls-files", "-z", *options], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(filter(None, found.stdout.split("\0")))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pack in a folder of its own, without what .comfyignore names."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    folder = tmp_path_factory.mktemp("custom_nodes") / "pack"
    for name in listed() - listed("--cached", "--ignored", "--exclude-from=.comfyignore"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def test_it_holds_what_users_need_and_little_else(installed: Path):
    assert {path.name for path in installed.iterdir()} == {
        ".comfyignore", "CHANGELOG.md", "LICENSE", "README.md", "__init__.py", "aether", "hero_engine",
        "locales", "nodes", "pyproject.toml", "requirements.txt", "web", "workflows",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in installed.rglob("*")) < MOST_MB * 1e6


@pytest.mark.slow
def test_all_nodes_are_there(installed: Path, comfyui: Path, tmp_path: Path):
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED, comfyui, installed], capture_output=True, text=True, cwd=tmp_path
    )
    assert loaded.returncode == 0, loaded.stderr
    ours = json.loads((ROOT / "tests" / "web" / "nodes.json").read_text(encoding="utf-8"))
    assert set(loaded.stdout.split()) == {name for name in ours if name.startswith(("Aether", "Hero"))}
