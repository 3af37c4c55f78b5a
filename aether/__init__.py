"""The Aether world model: a clip, or one or two images, become RGB video, depth and cameras.

Nothing heavy is imported here: the parts live in ``aether.loading``, ``aether.tasks``, ``aether.sampling``,
``aether.latents``, ``aether.raymap``, ``aether.geometry``, ``aether.clips`` and ``aether.export``.
"""

from .errors import InputError, SamplingStopped

__all__ = ["InputError", "SamplingStopped"]
