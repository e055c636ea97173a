"""Numbers for the nodes of a graph, as Model Explorer shows them.

Model Explorer draws a `.tflite` file, and colors its nodes by the numbers of a JSON
file, which is loaded beside it. A node is told by the name of a tensor that it gives.
"""
