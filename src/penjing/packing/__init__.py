"""Zeros and levels that pay in flash: constants that TFLM decodes while it runs.

Nobody unzips on a microcontroller, so what gzip made of zeros is worth nothing there.
TensorFlow Lite Micro has an operator that decodes a constant right before its reader:
the flash gets smaller, and the arena larger by the largest decoded weight. Which form
a weight gets is a question of bytes, and they are counted where they matter: each
choice is a whole file, written. See docs/file-format.md.

The runtime's wheel is needed for the proof alone. What stands in a file is written and
read by `penjing.tflite.decode_records`, and decoded in Python after every packing.
"""
