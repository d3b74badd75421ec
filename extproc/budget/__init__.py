"""Facts to tokens: features, categories, estimators, output reserve."""
