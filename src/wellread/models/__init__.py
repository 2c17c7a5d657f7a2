"""Stock transformers architectures, run on packed batches."""
