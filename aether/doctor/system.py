"""The system, and what reads and writes videos. No torch."""

from __future__ import annotations

import platform


def system_text() -> str:
    """System and processor; no name of the machine."""
    return f"{platform.system()} {platform.release()}, {platform.machine()}"


def video_text() -> str:
    """PyAV, which brings FFmpeg's libraries with it; the program ffmpeg is not needed."""
    import av

    try:
        av.codec.Codec("libx264", "w")
    except Exception:  # PyAV's own kinds of errors differ between versions
        return f"PyAV {av.__version__} cannot write H.264, which videos are saved in: pip install -U av"
    return f"PyAV {av.__version__} reads videos and writes H.264"
