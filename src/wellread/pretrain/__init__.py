"""Pre-training: optimisers, loop, checkpoints."""
