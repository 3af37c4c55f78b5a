"""The command line: `python -m aether`. The one room that imports `hero_engine`."""
