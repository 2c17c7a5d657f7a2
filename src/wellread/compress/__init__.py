"""Make a fine-tuned model smaller and faster: distil, quantise, binarise, prune; and the gate."""
