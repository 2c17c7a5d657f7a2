"""Tools against runs that fail or scatter on small data, each a function and a setting of [finetune]."""
