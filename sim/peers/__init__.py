"""Published accelerators as configurations of this simulator, and their own closed forms beside it."""
