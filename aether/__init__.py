"""The Aether world model: a clip, or one or two images, become RGB video, depth and cameras.

Nothing heavy is imported here: the parts live in ``aether.model.loading``, ``aether.generation.tasks``,
``aether.generation.sampling``, ``aether.generation.latents``, ``aether.geometry.raymap``,
``aether.geometry.cameras``, ``aether.clips.clip`` and ``aether.formats.export``.
"""

from .errors import InputError, SamplingStopped

__all__ = ["InputError", "SamplingStopped"]
