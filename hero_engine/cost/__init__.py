"""FLOPs, memory and speed-up bound of a setting, before anything runs. No torch.

``python -m hero_engine.cost --paper`` reproduces every FLOPs figure of the HERO paper's tables;
``python -m hero_engine.cost --tau 21 --interval 2 --ratio 1/6 --steps 50 --size 480x720x41`` predicts any
setting.
"""

from ..flops import ModelShape, linear_flops
from .prediction import (
    AETHER,
    Prediction,
    aether_shape,
    cached_bytes,
    cached_step_flops,
    format_prediction,
    full_step_flops,
    predict,
    speedup_bound,
)

__all__ = [
    "AETHER",
    "ModelShape",
    "Prediction",
    "aether_shape",
    "cached_bytes",
    "cached_step_flops",
    "format_prediction",
    "full_step_flops",
    "linear_flops",
    "predict",
    "speedup_bound",
]
