"""Which channels fall together, what each is worth, and models without them.

The graph is run on layouts: the value of a tensor is an id for each of its channels.
Producers make ids, sums tie them, concatenations lay them in a row. Ids that are tied
are a unit, which can only go as a whole; no weight is read for that. What is not known
stays whole, with its reason, since a wrong cut would be silent. A cut is checked
against the same model with the removed channels silenced. See docs/channels.md.
"""
