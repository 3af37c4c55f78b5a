"""The model: its parts, how they are loaded, and what they take of memory."""
