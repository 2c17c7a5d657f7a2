"""Distillation: a small student learns what a fine-tuned teacher says of unlabelled text."""
