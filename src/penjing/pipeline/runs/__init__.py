"""What a run of `compress` keeps: its folder, its state, its warnings, its models."""
