"""The inputs and outputs of a file: their types, their grids, what is folded there."""
