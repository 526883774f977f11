"""What the operator's control loop costs, against a real API server: `python -m control_loop`."""
