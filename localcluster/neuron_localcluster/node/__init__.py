"""The node agent: runs the pods of declared nodes as local processes, without root and without a container engine.

It fakes nothing that a pod does: the process is the pod. Only the isolation of containers is missing. It knows nothing
of NeuronModel.
"""
