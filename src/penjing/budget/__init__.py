"""A budget: the smallest or fastest file within it is found by trying recipes.

A trial is one recipe's run on the search's training part: one file, what it costs, and
its score on the validation part. Everything that a trial needs beside the model and
the data is a value that survives JSON, so it may run here, in another process or on
another machine; everything that it gives is on disk the moment it is known, so a search
that was killed goes on. The test part is not looked at before the search is over.
"""
