"""The packaged recipes, and recipes as text: known before Keras is loaded."""
