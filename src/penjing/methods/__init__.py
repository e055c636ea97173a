"""One compression method per module: its config and its public function."""
