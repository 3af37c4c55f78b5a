"""ComfyUI in this process: where it is, and the pack loaded into it the way ComfyUI does it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACK = "aether_hero_pack"
"""What the pack is called here; ComfyUI uses its path."""


def find_comfyui() -> Path | None:
    """$COMFYUI_PATH, else ~/comfy/ComfyUI."""
    path = Path(os.environ.get("COMFYUI_PATH") or "~/comfy/ComfyUI").expanduser()
    return path if (path / "comfyui_version.py").is_file() else None


def load_pack(comfyui: Path) -> Any:
    """The pack's root package, inside ComfyUI's libraries on the CPU, without a server."""
    # Before the repository's root, which has a folder `nodes` too.
    sys.path.insert(0, str(comfyui))
    from comfy.cli_args import args

    args.cpu = True
    spec = importlib.util.spec_from_file_location(
        PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{ROOT} cannot be loaded as a pack")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    return module


def part(name: str) -> Any:
    """``part("nodes.hero")`` is that module of the loaded pack."""
    return importlib.import_module(f"{PACK}.{name}")
