"""Sizes, accuracies and contents of what is deployed."""
