"""Measurements as a terminal table, JSON and a self-contained page.

One document holds what was measured; table, JSON and page are views of it. A page loads
nothing from elsewhere, and all text in it is escaped.
"""
