"""Where a `.tflite` file runs: here, or in a process of its own.

A hostile file can crash the C++ runtime, and a timed one must not share a process. What
runs in the other process imports neither Keras nor penjing, and so starts in a tenth of
a second. It has limits of time and memory.
"""
