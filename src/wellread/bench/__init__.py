"""Measured speed and memory: what sparsity and packing save on this machine's clock."""
