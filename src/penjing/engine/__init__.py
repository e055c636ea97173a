"""Models that train through weight transforms: prune, cluster, round, and strip.

One mechanism serves every method. A model in training owns the untouched inner model;
in each batch it reads the raw weights, sends them through transforms (masks, then
codebooks, then grids), and calls the inner model on what comes out. Masks, thresholds
and the step are ordinary weights that are not trained. So they are computed inside the
compiled step on every backend, without a callback, and are saved and distributed with
the model; and `strip` is exact after any batch.

Activations are rounded by stand-ins of layers that run in a forward pass in place of
them: paths, saving, stripping and other threads know nothing of it. See docs/engine.md.
"""
