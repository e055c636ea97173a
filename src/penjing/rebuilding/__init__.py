"""A `.tflite` file of anyone as a Keras model that trains.

Each operator becomes the Keras layer that it was, or an operation of `keras.ops`, by
the rules in `rules/`. Nobody is to trust them: each operator of the file runs in LiteRT
with all tensors kept, each layer runs on the same inputs, and the first that gives
something else is an error. So is a file with an operator that no rule knows, before
anything is built. See docs/load-litert.md.
"""
