"""Commands on what is finished: a run's page drawn again, runs and files compared.

They measure at most scores, and train nothing.
"""
