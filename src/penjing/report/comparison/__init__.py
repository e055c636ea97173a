"""Finished runs and files beside each other: their values, a chart, a page.

It knows reports, and nothing of how they came about: a run is what its report says.
"""
