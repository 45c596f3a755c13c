"""Methods, a file each."""
