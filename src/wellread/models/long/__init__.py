"""Attention for long documents, and short checkpoints made long."""
