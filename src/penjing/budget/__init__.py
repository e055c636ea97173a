"""A budget: the smallest or fastest file within it is found by trying recipes.

A trial is one recipe's run on the search's training part: one file, what it costs, and
its score on the validation part. Everything that a trial needs beside the model and
the data is a value that survives JSON, so it may run here, in another process or on
another machine; everything that it gives is on disk the moment it is known, so a search
that was killed goes on. The test part is not looked at before the search is over.

What is decided is apart from what is done. `bounds` says which of two files is better,
`planning` what a point of the space is as a recipe, and which point comes next:
functions of values, tested in a world of formulas in which nothing is trained. `search`
hands their choices to the workers; `proven_files` takes nothing for right that its
runtime has not computed. The model as it is and the dense control are trials like all
others, so every file that is ever shown was made, scored and kept in the same way.
"""
