"""The bundled small model in Aether's form, and the synthetic world it is meant to learn."""

from .model import build
from .raycast import FAR, WorldClip, render
from .world import Scene, random_scene

__all__ = ["FAR", "Scene", "WorldClip", "build", "random_scene", "render"]
