"""The program behind `make demo`: from nothing to a model that answers, on a local cluster, with every stage shown."""
