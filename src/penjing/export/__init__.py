"""Keras models into `.tflite` files that compute the same.

TensorFlow's converter makes the files, with JAX and PyTorch in a process of its own.
But its scales are not those of training. So weights that lie on a grid, or share few
values, are put into the float file as they are, and trained ranges are given to it by
fake quantization. Every file is run and compared with the model before it gets its
name: a difference beyond the mode's tolerance raises and leaves none. See
docs/export.md.
"""
