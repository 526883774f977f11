"""The code that runs in the pods: compile a model ahead of time, keep the artifact, serve it.

It never imports the operator. The operator imports `neuron_runtime.contract` and nothing else of it.
"""
