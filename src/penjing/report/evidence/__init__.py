"""What can be seen of a compression beside its totals: layers, weights, samples, times.

It is gathered once, behind all other stages of a run, and is small whatever the model
and the data are. None of it is worth a run: what cannot be had is left out, with the
reason.
"""
