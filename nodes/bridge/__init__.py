"""Where the nodes touch ComfyUI's internals: MODEL, VAE, samplers, wires, errors."""
