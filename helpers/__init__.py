"""Working implementations behind the course on LLM inference optimisation for Ascend NPUs."""
import os

# With torch_npu installed and no CANN, `import torch` itself fails unless autoloading is off.
# `helpers.device` imports torch_npu when an NPU is asked for or found.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
