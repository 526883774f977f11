"""The NeuronModel contract and the Kubernetes objects around it, as data. No I/O."""
