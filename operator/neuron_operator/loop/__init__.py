"""Level-triggered machinery that knows nothing of NeuronModel: triggers, snapshot, queue, controller, Lease."""
