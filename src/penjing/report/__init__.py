"""Measurements as a terminal table, JSON and a self-contained page."""
