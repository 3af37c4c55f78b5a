"""What is here and what is missing: a report as plain text, to read and to copy into an issue.

Each file finds the lines of one section. Whoever prints the report, the command or the node, puts the
sections together and adds what only it knows: attention backends, recordings of HERO Tuner, ComfyUI.
"""
