"""What the operator and the containers that it starts agree on.

Pydantic and the standard library only: the operator imports this package, and nothing else of the runtime.
"""
