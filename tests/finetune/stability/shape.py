"""Depth of the checkpoints that the stability tools are tested on."""

LAYERS = 3
