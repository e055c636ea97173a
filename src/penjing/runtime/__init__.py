"""Where a `.tflite` file runs: here, or in a process of its own.

A hostile file can crash the C++ runtime, and a timed one must not share a process.
`worker_process` starts such a process, with limits of time and memory, and speaks with
it. What runs there (`litert_worker`) imports neither Keras nor penjing, and so starts
in a fifth of a second.
"""
