"""The report page, metrics.json and the model card."""
