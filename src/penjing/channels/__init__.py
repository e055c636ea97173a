"""Which channels fall together, what each is worth, and models without them."""
