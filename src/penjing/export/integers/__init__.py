"""Files whose activations are integers: made, looked into, and parts left in float.

One scale serves a whole tensor, so a few values far out leave the others a handful of
steps. Which tensor that is cannot be told from the outputs: the file and a float32 twin
run on the same inputs, and are compared tensor by tensor. Layers around a bad tensor
can stay in float.
"""
