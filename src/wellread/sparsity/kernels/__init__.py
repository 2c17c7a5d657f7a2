"""Kernels for sparse linear layers on CPUs: one C++ source, compiled on the user's machine."""
