"""What serving a model costs over running its graphs, and what other engines make of the same weights.

`make bench` runs it. Every contestant is a process of its own and imports nothing of the others.
"""
