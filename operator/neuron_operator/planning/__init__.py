"""Decides what a model needs and where it fits. Pure: configuration in, plan out; no I/O, no clock."""
