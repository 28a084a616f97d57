"""Evaluation against human ratings: agreement with intervals, splits, comparisons, features."""
