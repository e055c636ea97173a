"""Where a `.tflite` file runs: here, or in a process of its own."""
