"""Models that train through weight transforms: prune, cluster, round, and strip."""
