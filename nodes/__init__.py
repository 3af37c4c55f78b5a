"""The ComfyUI nodes: thin, one file per stage of the graph. The work is in ``aether`` and ``hero_engine``."""

if __name__ == "nodes":
    raise ImportError(
        "this is ComfyUI-Aether-HERO's folder `nodes`, not ComfyUI's module of that name: take the pack's "
        "root off sys.path, or put ComfyUI's before it"
    )
