"""The kernels that the emulated NPU computes with torch on the CPU, one file for each kind of operator."""
