"""What a run leaves: records, condensed sets, checkpoints, pictures, and where they come from."""
