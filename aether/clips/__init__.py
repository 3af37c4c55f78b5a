"""Clips and pictures in: which frames, how they are decoded, and how they are fitted."""
