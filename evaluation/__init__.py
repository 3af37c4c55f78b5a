"""The papers' measurements as commands: `python -m evaluation depth | pose | fidelity | vbench | compare`.

Runs from the repository, on top of `aether`, which never imports it. See docs/evaluation.md.
"""
