"""The OpenAI-compatible server. It runs what was compiled; it compiles nothing."""
