"""Kinds of units that are masked together, one to a file, and the lists that some of them need."""
