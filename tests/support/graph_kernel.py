"""One C++ kernel of compiled graphs as a library of its own, called with arrays."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neuron_runtime.engines.aot_inductor import Tensor
from neuron_runtime.engines.cpu_toolchain import compiler_command
from neuron_runtime.engines.graph_kernels import Kernel, build_kernels

Array = npt.NDArray[np.float32]


def kernel_function(kernel: Kernel, folder: Path, march: str) -> Callable[..., Array]:
    """Compile a kernel; its function takes arrays and numbers, and returns an array of the shape that it is told last.

    Raises RuntimeError when it does not compile.
    """
    build_kernels([kernel], folder, march)
    path = folder / "kernel.so"
    objects = [str(file) for file in folder.glob("*.o")]
    subprocess.run([compiler_command(), "-shared", "-fopenmp", *objects, "-o", str(path)], check=True)
    Tensor(np.zeros(1, np.float32))  # loads torch's library, whose functions the kernel calls
    name = kernel.operator.name().partition("::")[2]
    function, torch_library = getattr(ctypes.CDLL(str(path)), f"aoti_torch_cpu_{name}"), ctypes.CDLL(None)

    def call(*arguments: npt.NDArray[np.generic] | int, shape: tuple[int, ...]) -> Array:
        handle, data = ctypes.c_void_p(), ctypes.c_void_p()
        tensors = [Tensor(argument) if isinstance(argument, np.ndarray) else argument for argument in arguments]
        given = [item.handle if isinstance(item, Tensor) else ctypes.c_int64(item) for item in tensors]
        assert function(*given, ctypes.byref(handle)) == 0
        torch_library.aoti_torch_get_data_ptr(handle, ctypes.byref(data))
        memory = (ctypes.c_float * int(np.prod(shape))).from_address(data.value or 0)
        result: Array = np.frombuffer(memory, np.float32).reshape(shape).copy()
        torch_library.aoti_torch_delete_tensor_object(handle)
        return result

    return call
