"""Linear algebra of forward operators."""
