"""The model files that templates on core's models ask for, as files that take no room."""

from __future__ import annotations

import json
from pathlib import Path

from .browser import CORE_TEMPLATES, WORKFLOWS
from .headers import WAN_5B, WAN_CAMERA, save_header

HEADERS = {
    "wan2.2_ti2v_5B_fp16.safetensors": WAN_5B,
    "wan2.1_fun_camera_v1.1_1.3B_bf16.safetensors": WAN_CAMERA,
}


def put_files(base: Path) -> None:
    """Write them into a ComfyUI's folder: diffusion models as their headers, all others empty."""
    for name in CORE_TEMPLATES:
        for node in WORKFLOWS[name]["nodes"]:
            for model in node["properties"].get("models", []):
                if model["directory"] != "diffusers":
                    _put_file(base / "models" / model["directory"] / model["name"])
    config = base / "models/diffusers/AetherV1/transformer/config.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps({"_class_name": "CogVideoXTransformer3DModel"}), encoding="utf-8")


def _put_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name in HEADERS:
        save_header(path, HEADERS[path.name])
    else:
        path.touch()
