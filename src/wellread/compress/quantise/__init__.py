"""Weights in few bits: uniform groups (Q-BERT), nf4, fp4 and int8, with training or without."""
