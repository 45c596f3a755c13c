"""From a condensed set to a trial: train a fresh network by a protocol, and test it."""
