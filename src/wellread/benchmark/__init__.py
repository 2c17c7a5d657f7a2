"""Public benchmarks run on a model: their tasks, their score, a table beside published models."""
