"""The only part of the operator that talks to the Kubernetes API (but for kopf's watches)."""
