"""The `.tflite` format: read, changed and written as records.

Reader and writer are our own. They write smaller files than code generated from the
schema, and in less time, and refuse hostile offsets with one clear error: what is read
in all is bounded, so that tables which point at each other cannot multiply. A field
that the layouts do not know is refused, not dropped. See docs/file-format.md.
"""
