"""Which ComfyUI this pack needs. The one place that says so; pyproject.toml repeats it for the registry."""

from __future__ import annotations

OLDEST_COMFYUI = "0.33.0"
"""The nodes use the V3 schema with advanced inputs, search aliases and live text, and the model bridge uses
wrappers around sampling runs. Older versions have some of this; this is the oldest one tested."""


def check_comfyui() -> None:
    """Refuse a ComfyUI that is too old, before anything else can fail in a less telling way.

    Raises:
        ImportError: says which version is needed and what to do.
    """
    found = comfyui_version()
    if not is_supported(found):
        raise ImportError(
            f"ComfyUI-Aether-HERO needs ComfyUI {OLDEST_COMFYUI} or newer, and this is {found}: "
            "please update ComfyUI"
        )


def comfyui_version() -> str:
    """Such as "0.33.0"; "unknown" where ComfyUI does not say it."""
    try:
        from comfyui_version import __version__
    except ImportError:
        return "unknown"
    return str(__version__)


def is_supported(version: str) -> bool:
    """Whether a version such as "0.33.1" is new enough. What is not a number counts as too old."""
    try:
        return _numbers(version) >= _numbers(OLDEST_COMFYUI)
    except ValueError:
        return False


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("+")[0].split("-")[0].split("."))
