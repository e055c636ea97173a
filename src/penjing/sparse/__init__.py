"""Zeros that pay: which kernels use them, and the files that hold them.

Few kernels skip zeros, and XNNPACK can be silently wrong where they run in part of a
graph. So one table says which do, with its sources; Keras layers and the nodes of files
are put in its words, and the steps by which XNNPACK decides are followed on the file
before it is written. See docs/sparse-inference.md.
"""
