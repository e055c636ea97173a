"""What a budget bounds, as people write it and as files are judged by it."""
