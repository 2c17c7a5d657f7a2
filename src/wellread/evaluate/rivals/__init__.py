"""Cheap rivals on the same splits and budgets; one file each, the table is in run.py."""

NAMES = ("majority", "tfidf", "static", "minilm-frozen", "minilm-setfit", "cct")
# Rivals that stand on more than the task: on word vectors of the corpus, on a general encoder.
ON_VECTORS = ("static",)
ON_ENCODER = ("minilm-frozen", "minilm-setfit")
