"""The maintainer's work: submit, verify, and what keeps a submission honest."""
