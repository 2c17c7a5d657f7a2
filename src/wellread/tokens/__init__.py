"""Text to token ids: tokenizer, token store, packed batches."""
