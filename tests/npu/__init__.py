"""Tests that run the real torch_npu on the emulated NPU."""
