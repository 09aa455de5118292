"""The network outside PyTorch: exported as graphs (ONNX, torch.export), and run from these under the same loop."""
