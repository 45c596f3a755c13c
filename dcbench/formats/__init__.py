"""Sets and arrays made elsewhere, read safely."""
