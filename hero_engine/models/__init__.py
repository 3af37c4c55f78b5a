"""What a run needs to know of a model family: the base class, and one file per family."""
