"""Scores, intervals, calibration, rivals."""
