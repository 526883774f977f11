"""The operator: reconciles NeuronModel resources."""

__version__ = "0.1.0"
