"""Sparse weights: patterns, linear layers, densify, FLOP accounting."""
