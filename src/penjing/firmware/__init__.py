"""A `.tflite` file as C++ for TensorFlow Lite Micro: what firmware is built of.

There is no file system on a microcontroller, so a file becomes an array in flash. All
else that a program needs to know of it stands beside the array, computed and not
guessed: the operators to link, the RAM for the arena, the numbers that real values are
stored as, and a sample with the output that it must give on the device. Names and
layout are those that TFLM's own examples have. The templates are the files as they are
written; Python fills in values alone.

The room stands above `packing/`, whose reader restores packed files: LiteRT, which
computes what is expected where TFLM is not installed, runs only those.
"""
