"""How fast verified files come out of a store."""
