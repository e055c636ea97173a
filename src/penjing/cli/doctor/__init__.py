"""`penjing doctor`: what is installed, what each job lacks, and what brings it.

A package that is there need not work: its libraries may be missing, or be built for
another processor. So each part is tried, in a process of its own, with a file that
takes no time: runtimes run it, the converter makes one. All are tried at once.
"""
