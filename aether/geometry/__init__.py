"""Cameras, depth, raymaps, surfaces: arrays only, no files and no models."""
