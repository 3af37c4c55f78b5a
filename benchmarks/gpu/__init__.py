"""All figures of a GPU in one command of ten minutes: `bash scripts/gpu.sh`.

What a file does: `settings` says what is measured and on what, `parts` which parts there are and how long
each may take, `work` what each part does (`speed_parts`, `memory_parts`); `worker` measures parts in a
process of their own, `budget` keeps to the time, `record` is the JSON file, `tables` the page made of it.
"""
