"""Cheap rivals on the same splits and budgets; one file each, the table is in run.py."""

# Rivals that stand on more than the task: on word vectors of the corpus, on a general encoder.
ON_VECTORS = ("static",)
ON_ENCODER = ("minilm-frozen", "minilm-setfit")
