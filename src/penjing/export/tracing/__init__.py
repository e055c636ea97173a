"""What a model is traced as, so that the converter knows and quantizes all of it."""
