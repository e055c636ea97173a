"""Where trials run: one after the other here, in processes beside, or on a cluster.

A workplace takes orders and gives outcomes; it does not know what a trial does. Model
and data are handed over once. A trial whose process ends is run again, for it may have
been the machine; one that ends its process twice is a failed trial, and the others go
on. What keeps every trial from running, such as a full disk, is raised.
"""
