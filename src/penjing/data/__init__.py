"""Users' data, the named data sets, and the architectures that go with them.

Part of Fashion-MNIST is installed with penjing, with its licence, so that the demo and
the tests need no network.
"""
