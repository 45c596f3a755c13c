"""From a spec to a condensed set: condensation, its checkpoints, coresets of features."""
