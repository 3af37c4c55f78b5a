"""Every file that is written, or read for its geometry: cameras, depth, scenes, result folders."""
