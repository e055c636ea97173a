"""Rules from an operator to the layer that it was, a module for each family."""
