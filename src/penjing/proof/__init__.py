"""Whether a file computes in another runtime what it computes in Python, how fast.

Here is what all runtimes have in common; `file_verification` lists them. A file can be
right in Python and silently wrong elsewhere, for each runtime has kernels of its own.
So outputs are compared with those in Python, and with those of a dense twin in the same
runtime: which of the two differs says whether the sparse kernels are to blame.
"""
