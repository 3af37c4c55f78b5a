"""Walks through a world: a picture and a camera path of any length, in windows that go on from each other."""
