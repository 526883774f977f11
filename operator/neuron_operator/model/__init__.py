"""The domain: what a NeuronModel needs in the cluster, and what its status says about it."""
