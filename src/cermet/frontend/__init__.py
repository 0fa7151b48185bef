"""Ways into the ML layer: .tflite files and the delegate's blob, both to the same Subgraph."""
