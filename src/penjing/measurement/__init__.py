"""Sizes, accuracies, times and contents of what is deployed.

What is measured is the file, as it is deployed, and not the model that it came from.
Times are ratios of medians over rounds in which files take turns, since what disturbs a
machine disturbs all alike. Multiply-accumulates are counted while the model runs on
placeholders, so code of one's own counts too. See docs/measurement.md.
"""
