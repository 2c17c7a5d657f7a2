"""Labelled tasks: formats, derivation, checks."""
