"""An Ascend NPU for machines that have none: the real, unmodified torch_npu, on a CPU, over an emulated CANN.

    from helpers import emulated_npu
    emulated_npu.start()
    x = torch.randn(4, device="npu")

torch_npu's own code (its Python, operator plugin, allocator, autograd, graphs) runs for real. Its kernels end in C
calls of CANN's operator library; those land here and are computed with torch on CPU tensors over the "device's"
memory. What is not emulated raises and names itself, and the operators that the course calls raise for every call
that their documents do not allow. Time is not emulated: an event gives the host's clock. Nothing that runs here says
anything about the speed of an NPU, or about the rounding of its kernels.

Processes of one machine that each start an NPU can join torch_npu's process group, `"hccl"`: the emulated collective
library passes their data through shared memory.

Set `ASCEND_LAUNCH_BLOCKING` before `start`. The default is 1: kernels run in the calling thread, and the call that
caused an error raises it. With 0, torch_npu's queue is asynchronous. Then an error surfaces at the next
synchronization and ends the process's work on the device.
"""

from helpers.emulated_npu.control import operators, set_capacity, start, trace, used
from helpers.emulated_npu.emulation import is_running as running
from helpers.emulated_npu.errors import ContractError, NotEmulated

__all__ = ["ContractError", "NotEmulated", "operators", "running", "set_capacity", "start", "trace", "used"]
