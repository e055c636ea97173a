"""Zeros that pay: which kernels use them, and the files that hold them."""
