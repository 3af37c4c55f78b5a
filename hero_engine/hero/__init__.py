"""HERO: its settings, its steps, and what they are made of."""
