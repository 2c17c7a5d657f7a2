"""Dense fine-tuning on labelled tasks."""
