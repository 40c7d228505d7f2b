"""aclnn calls on their way from torch_npu to Python: decoding, rules, the two phases, errors, graphs, the trace.

torch_npu calls an operator twice: `aclnnXxxGetWorkspaceSize(arguments..., &size, &executor)` and then
`aclnnXxx(workspace, size, executor, stream)`. The first phase decodes the arguments and checks what the host
can know. The second phase computes at once; where the stream is being captured, at each replay of the graph; where
the stream waits for other processes, when its turn comes.
"""

from __future__ import annotations

import ctypes
import itertools
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from helpers.emulated_npu.build import operator_of
from helpers.emulated_npu.errors import ContractError, NotEmulated, emulated
from helpers.emulated_npu.operators import C_TYPES, Operator, touches_complex
from helpers.emulated_npu.records import read
from helpers.emulated_npu.runtime import FORGET, KEPT, RUN_NOW, Runtime

_REFUSED = 561002  # what CANN answers to a call that its tiling does not accept
_FAILED = 561999  # any code but 207000, about which torch_npu only warns
_SecondPhase = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p
)


class _Call(NamedTuple):
    """An operator with its arguments; `addresses` are the C values behind them."""

    name: str
    operator: Operator
    args: Sequence[Any]
    addresses: Sequence[Any]


class Calls:
    """The way from each aclnn function of the runtime to its operator, or to an error that names it."""

    def __init__(
        self, runtime: Runtime, queries: Sequence[str], table: Mapping[str, Operator], asynchronous: bool
    ):
        """Fill the runtime's jump slots, one for each of the `queries`, and one for all second phases.

        `asynchronous` says whether kernels are launched by torch_npu's queue, in a thread of its own.
        """
        self._runtime = runtime
        self._asynchronous = asynchronous
        self._keys = itertools.count(1)
        self._pending: dict[int, _Call] = {}  # between the phases
        self._kept: dict[int, _Call] = {}  # in graphs and in queues of streams
        self._traces: list[list[str]] = []
        self._launches: list[list[str]] = []
        for slot, query in enumerate(queries):
            runtime.fill_slot(slot, self._query(query, table.get(operator_of(query))))
        runtime.fill_slot(len(queries), _SecondPhase(self._second_phase))
        runtime.set_operator_callback(self._kept_operator)

    @contextmanager
    def trace(self, launched: bool = False) -> Iterator[list[str]]:
        """Collect the names of the kernels that run in the block, or that the host launches in it, in order."""
        names: list[str] = []
        lists = self._launches if launched else self._traces
        lists.append(names)
        try:
            yield names
        finally:
            lists[:] = [each for each in lists if each is not names]

    def _query(self, query: str, operator: Operator | None) -> object:
        """Return the ctypes callback of one first phase."""
        name = operator_of(query)
        if operator is None:
            return ctypes.CFUNCTYPE(ctypes.c_int)(lambda: self._failure(name, NotEmulated("this operator")))
        keeps = not query.endswith(
            "GetMaxWorkspaceSize"
        )  # no second phase follows the question for a maximum
        types = [C_TYPES[letter] for letter in operator.signature]

        def first_phase(*raw: Any) -> int:
            return self._guarded(name, lambda: self._prepare(name, operator, raw, keeps))

        return ctypes.CFUNCTYPE(ctypes.c_int, *types, ctypes.c_void_p, ctypes.c_void_p)(first_phase)

    def _prepare(self, name: str, operator: Operator, raw: Sequence[Any], keeps: bool) -> None:
        """Do the first phase: decode and check, then keep the call under a key for the second phase."""
        *addresses, size, executor = raw
        _require_results(size, executor)
        args = [
            value if kind is None else read(value, kind, self._runtime.record)
            for kind, value in zip(operator.kinds, addresses, strict=True)
        ]
        emulated(operator.complex_too or not touches_complex(args), "complex tensors")
        if operator.check is not None:
            operator.check(*args)
        if keeps:
            key = next(self._keys)
            self._pending[key] = _Call(name, operator, args, addresses)
            ctypes.c_uint64.from_address(executor).value = key

    def _second_phase(self, workspace: int, size: int, key: int, stream: int | None) -> int:
        """Run the call, or leave it to a graph or a queue."""
        call = self._pending.pop(key)
        for launches in self._launches:
            launches.append(call.name)
        self._kept[key] = call  # before the launch: another thread may run what stands in a queue
        answer = self._runtime.launch(stream, key)
        if answer == KEPT:
            return 0
        del self._kept[key]
        return self._run(call) if answer == RUN_NOW else answer

    def _kept_operator(self, key: int, request: int) -> int:
        """Run or drop an operator that a graph or a queue holds."""
        if request == FORGET:
            self._kept.pop(key, None)
            return 0
        return self._run(self._kept[key])

    def _run(self, call: _Call) -> int:
        """Compute one call."""

        def compute() -> None:
            shapes = call.operator.run(*call.args)
            if call.operator.resizes:
                for index, shape in shapes.items():
                    self._runtime.set_view_shape(call.addresses[index], shape)
            for trace in self._traces:
                trace.append(call.name)

        return self._guarded(call.name, compute)

    def _guarded(self, name: str, action: Callable[[], None]) -> int:
        """Do the action; return 0, or the code of its failure.

        The caller's default device, torch-function mode and gradient mode have no effect inside.
        """
        try:
            with torch._C.DisableTorchFunction():
                if torch.is_grad_enabled():  # seldom: inference has none, and entering a context costs
                    with torch.no_grad():
                        action()
                else:
                    action()
        except BaseException as error:  # nothing may escape into C
            return self._failure(name, error)
        return 0

    def _failure(self, name: str, error: BaseException) -> int:
        """Keep the error's text for torch_npu, and return the code that makes torch_npu raise."""
        told = isinstance(error, ContractError | NotEmulated)
        text = f"emulated NPU: {name}: {type(error).__name__}: {error}"
        if isinstance(error, NotEmulated):
            text = f"emulated NPU: {name}: NotEmulated: {error} is not emulated"
        if not told:
            text += "\n" + "".join(traceback.format_exception(error))[-8000:]
        self._runtime.set_error(text)
        if self._asynchronous:
            self._runtime.die(text)
        return _REFUSED if isinstance(error, ContractError) else _FAILED


def _require_results(size: int | None, executor: int | None) -> None:
    """Raise TypeError unless the last two arguments are neighbouring addresses of zeros, as of torch_npu."""
    lowest = 1 << 20
    plausible = size and executor and size > lowest and abs(executor - size) <= 4096
    if not plausible or any(ctypes.c_uint64.from_address(at or 0).value for at in (size, executor)):
        raise TypeError("no workspace size and executor at the end: the operator's signature is wrong")
