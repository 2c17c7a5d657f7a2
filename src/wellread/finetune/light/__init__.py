"""Light-weight fine-tuning: a few parameters of a stock model are added or chosen, and trained."""
