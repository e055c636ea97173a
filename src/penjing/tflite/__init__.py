"""The `.tflite` format: read, changed and written as records."""
