"""Models of one bit a weight (BiBERT) and of two binary planes a weight (DB-LLM)."""
