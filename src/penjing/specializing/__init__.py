"""Any `.tflite` file with free sizes into one whose sizes are all known.

Converters leave the batch free, and with it every size that depends on it: stored
shapes are then guesses, and operators compute them anew in each run. LiteRT does, and
other runtimes do not: they believe what is stored, refuse the file, or are silently
wrong. So the file is run once, with a batch of 1, by LiteRT itself; each
tensor gets the shape that it has there, and what depends on shapes and constants alone
becomes a constant. What comes out has to give the same outputs bit by bit.
"""

from penjing.specializing.specializing import specialize

__all__ = ["specialize"]
