"""How the bundled miniature was made: `python -m training`. Not in the wheel."""
