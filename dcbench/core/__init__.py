"""The nouns: data set, split, architecture, method, condensed set, spec."""
