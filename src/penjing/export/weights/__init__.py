"""The weights of a file: what training fixed in them, as integers, and looked up again.

The converter rounds weights by scales of its own. Here they get those of training, in
float files and in files of integer activations. See docs/export.md.
"""
