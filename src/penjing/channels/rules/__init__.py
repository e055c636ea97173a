"""One module of rules for each family of layers: what a call does to channels."""
