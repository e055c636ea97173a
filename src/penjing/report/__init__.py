"""Measurements as a terminal table, JSON and a self-contained page.

One document holds what was measured; table, JSON, page and notebook are views of it.
What fills it stands below: `evidence` gathers what can be seen beside totals,
`comparison` puts documents beside each other. A page is one file with its own copy of
Vega-Lite (`vega`): it loads nothing from elsewhere, all text in it is escaped, and it
allows no other code.
"""
