"""How the operator is watched: metrics, health, logs."""
