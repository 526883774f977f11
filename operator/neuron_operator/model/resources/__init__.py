"""Builders of the child objects: pure functions of (model, revision, artifact). No I/O, no clock, no randomness."""
