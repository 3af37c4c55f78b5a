"""Every method against the unaccelerated run: `python -m evaluation compare`. See docs/evaluation.md.

What a file does: `contenders` names methods and settings, `packages` calls those of other packages, `meter`
times and counts, `runs` makes one run and measures it, `journal` and `work` get through many of them,
`summary` and `report` say what came out, `search` looks for the settings in the first place.
"""
