"""What pre-training predicts, and what is masked."""
