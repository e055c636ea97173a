"""Model cards: what a compressed model is, as hubs show it.

A card is Markdown with a head in YAML. Reports may be anybody's, so their texts are
escaped. Nothing is in it that was not measured; what was not is said.
"""
