"""The hardware-independent ML layer: tensors, operations, subgraphs, their numerics, verification and passes."""
