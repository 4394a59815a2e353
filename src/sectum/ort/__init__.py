"""What ONNX Runtime 1.31 does with a graph on the CPU."""
