"""Pruning and rounding weights by what flows through the model, without training.

A hundred inputs run through the model once. Each layer sums up the products of its
inputs, from which `numerics/optimal_brain.py` finds weights that make up for others
which fall or are rounded. So a layer is seen as a matrix, and its inputs as rows of it
(`layer_rows.py`); what cannot be seen so goes by magnitude or plain rounding, and the
report says why. How much each layer loses is decided by what that costs at the model's
outputs, measured on the same inputs. No label is needed anywhere.
"""
