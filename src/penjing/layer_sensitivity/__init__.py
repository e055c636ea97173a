"""What each layer costs when it alone is cut, rounded or pruned; nothing is trained.

Cuts are measured by the model's own metrics, again after each (`cut_trials.py`), and a
run that was killed goes on. What bits and zeros cost is told by `one_shot/`, from one
pass over the inputs.
"""
