"""Clips longer than the model takes: windows, tiles, and how they are joined."""
