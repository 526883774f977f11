"""How soon servers are ready, and what memory many of them take on one machine."""
