"""Where Aether's files come from, and the commands that fetch them. No torch."""

from __future__ import annotations

from dataclasses import dataclass

AETHER_REPO = "AetherWorldModel/AetherV1"

BASE_REPO = "THUDM/CogVideoX-5b-I2V"
"""What Aether was tuned from: its VAE, scheduler and text encoder are Aether's."""


@dataclass(frozen=True)
class Download:
    """A part of Aether on Hugging Face.

    Attributes:
        repo: the repository.
        files: which of it, as `hf download` takes them.
        comfyui: the folder of ComfyUI that they go to.
    """

    repo: str
    files: str
    comfyui: str = "models/diffusers/AetherV1"

    @property
    def command(self) -> str:
        """Fetches it into Hugging Face's cache, where `--model` finds it."""
        return f"hf download {self.repo} {self.files}"

    @property
    def command_in_comfyui(self) -> str:
        """Fetches it into ComfyUI's folders, from ComfyUI's own folder."""
        return f"{self.command} --local-dir {self.comfyui}"


TRANSFORMER = Download(AETHER_REPO, '--include "transformer/*"')
VAE = Download(BASE_REPO, '--include "vae/*"')
TEXT_ENCODER = Download(BASE_REPO, '--include "text_encoder/*"')
T5_FILE = Download("comfyanonymous/flux_text_encoders", "t5xxl_fp16.safetensors", "models/text_encoders")
"""The encoder in one file, as ComfyUI has it."""
