"""Readers of document files, one format each."""
