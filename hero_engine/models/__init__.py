"""What a run must know of a model family: the protocol, and one file a family."""
