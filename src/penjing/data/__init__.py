"""The data that is installed with penjing, with its licence."""
