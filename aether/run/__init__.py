"""Whole jobs: from inputs to results, compared or reconstructed once more."""
