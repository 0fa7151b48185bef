"""How far the NPU's tensors are from the reference: `cermet accuracy`."""
