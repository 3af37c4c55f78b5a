"""Faster full steps: attention backends, fused projections, compiled blocks."""
