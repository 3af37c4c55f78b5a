"""How an input names a clip that is rendered from the synthetic world."""

import re

SYNTHETIC = re.compile(r"synthetic(?::(\d+))?")
"""With a seed, or 0 without one."""
