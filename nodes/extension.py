"""What ComfyUI is handed: the list of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bridge.compat import check_comfyui

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension


def make_extension() -> ComfyExtension:
    """The pack as ComfyUI takes it.

    Raises:
        ImportError: ComfyUI is too old.
    """
    check_comfyui()
    from comfy_api.latest import ComfyExtension, io

    from .bridge.errors import with_plain_errors
    from .bridge.prediction_route import serve_predictions
    from .prediction import answer

    serve_predictions(answer)

    class AetherHero(ComfyExtension):
        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            from . import (
                camera_check,
                camera_path,
                cameras,
                depth,
                doctor,
                example,
                explore,
                geometry,
                hero,
                hero_analyzer,
                hero_methods,
                hero_report,
                hero_tuner,
                loaders,
                long_clip,
                lora,
                metric_scale,
                point_cloud,
                post_reconstruction,
                sampler,
                save_depth,
                streams,
                tasks,
                video,
            )

            modules = (
                loaders, tasks, hero, hero_report, hero_methods, hero_analyzer, hero_tuner, sampler, streams,
                depth, cameras, example, camera_path, save_depth, video, long_clip, explore,
                post_reconstruction, point_cloud, geometry, lora, doctor, camera_check, metric_scale,
            )  # fmt: skip
            return [with_plain_errors(node) for module in modules for node in module.NODES]

    return AetherHero()
