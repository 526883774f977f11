"""Graphs that torch's AOTInductor compiled, through their C interface: run without the GIL, without importing torch.

Of an installed torch only libtorch_cpu and what that needs are loaded. The interface is torch's own and moves with its
version: nothing outside of this module knows a name of it, and a test holds it against torch's package loader.
"""

import ctypes
import functools
import importlib.util
import weakref
from collections.abc import Mapping, Sequence
from ctypes import POINTER, byref, c_bool, c_byte, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_OUT_HANDLE = POINTER(c_void_p)
_OUT_NUMBERS = POINTER(POINTER(c_int64))
_TORCH: dict[str, list[Any]] = {
    "aoti_torch_create_tensor_from_blob": [
        *(c_void_p, c_int64, POINTER(c_int64), POINTER(c_int64), c_int64),
        *(c_int32, c_int32, c_int32, _OUT_HANDLE),
    ],
    "aoti_torch_delete_tensor_object": [c_void_p],
    "aoti_torch_device_type_cpu": [],
    "aoti_torch_dtype_float32": [],
    "aoti_torch_dtype_int64": [],
    "aoti_torch_dtype_int8": [],
    "aoti_torch_get_data_ptr": [c_void_p, _OUT_HANDLE],
    "aoti_torch_get_dim": [c_void_p, POINTER(c_int64)],
    "aoti_torch_get_dtype": [c_void_p, POINTER(c_int32)],
    "aoti_torch_get_sizes": [c_void_p, _OUT_NUMBERS],
    "aoti_torch_get_strides": [c_void_p, _OUT_NUMBERS],
    "aoti_torch_new_tensor_handle": [c_void_p, c_void_p],
}
# at::set_num_threads(int). Setting OpenMP's number alone does not last: torch sets its own in each thread's first call.
_SET_THREADS = "_ZN2at15set_num_threadsEi"


class _Constant(ctypes.Structure):
    _fields_ = (("name", c_char_p), ("handle", c_void_p))


_CONTAINER: dict[str, list[Any]] = {
    "AOTInductorGetLastError": [POINTER(c_char_p)],
    "AOTInductorModelContainerCreateWithDevice": [_OUT_HANDLE, c_size_t, c_char_p, c_char_p],
    "AOTInductorModelContainerDelete": [c_void_p],
    "AOTInductorModelContainerGetConstantDataSize": [c_void_p, c_size_t, POINTER(c_size_t)],
    "AOTInductorModelContainerGetConstantName": [c_void_p, c_size_t, POINTER(c_char_p)],
    "AOTInductorModelContainerGetConstantOriginalFQN": [c_void_p, c_size_t, POINTER(c_char_p)],
    "AOTInductorModelContainerGetNumConstants": [c_void_p, POINTER(c_size_t)],
    "AOTInductorModelContainerGetNumInputs": [c_void_p, POINTER(c_size_t)],
    "AOTInductorModelContainerGetNumOutputs": [c_void_p, POINTER(c_size_t)],
    "AOTInductorModelContainerUpdateUserManagedConstantBufferPairs": [
        *(c_void_p, POINTER(_Constant), c_size_t, c_bool, c_bool)
    ],
}
# The sizes of constants that a graph tells of are those that they would have in its own file.
_ROUNDED_UP_TO = 64
_RUN = "AOTInductorModelContainerRun"
_RUN_ARGUMENTS = [c_void_p, _OUT_HANDLE, c_size_t, _OUT_HANDLE, c_size_t, c_void_p, c_void_p]


def set_threads(count: int) -> None:
    """How many threads graphs use that are run by the calling thread."""
    set_num_threads = getattr(_torch(), _SET_THREADS)
    set_num_threads.argtypes, set_num_threads.restype = [c_int], None
    set_num_threads(count)


class Tensor:
    """An array as graphs take it: C-contiguous, float32, int64 or int8. They share its memory."""

    def __init__(self, array: Array) -> None:
        handle = c_void_p()
        strides = (c_int64 * array.ndim)(*(stride // array.itemsize for stride in array.strides))
        code = _torch().aoti_torch_create_tensor_from_blob(
            *(array.ctypes.data, array.ndim, (c_int64 * array.ndim)(*array.shape), strides, 0),
            *(_types()[array.dtype], _torch().aoti_torch_device_type_cpu(), 0, byref(handle)),
        )
        _succeed(code, "a tensor over an array")
        self.array = array
        self.handle = handle
        _delete_with(self, _torch().aoti_torch_delete_tensor_object, handle)


class Graph:
    """One compiled graph, which is to have its weights before it runs. One thread at a time may run it."""

    def __init__(self, path: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Raises OSError for a file that cannot be loaded, RuntimeError or KeyError for one that does not fit."""
        # The graph is not linked to torch (see `cpu_compile`), so torch's symbols have to be there before it is.
        _torch()
        self._library = _prototyped(ctypes.PyDLL(str(path)), _CONTAINER)
        container = c_void_p()
        self._call("CreateWithDevice", byref(container), 1, b"cpu", None)
        _delete_with(self, self._library["AOTInductorModelContainerDelete"], container)
        self._container = container
        self._weights = list[Tensor]()
        self._inputs, self._outputs = self._count("GetNumInputs"), self._count("GetNumOutputs")
        # The same library once more: a CDLL lets go of the GIL in each call, which short calls would rather keep.
        self._run = _prototyped(ctypes.CDLL(str(path)), {_RUN: _RUN_ARGUMENTS})[_RUN]
        if weights is not None:
            self.read(weights)

    def run(self, inputs: Sequence[Tensor]) -> list[Array]:
        """Its outputs, which are new arrays; inputs are changed where the graph writes to them. Raises RuntimeError."""
        if len(inputs) != self._inputs:
            raise RuntimeError(f"the graph takes {self._inputs} inputs, not {len(inputs)}")
        # A run takes the handles that it is given: each gets one of its own for what the caller keeps.
        given = (c_void_p * self._inputs)()
        new_handle, place = _torch().aoti_torch_new_tensor_handle, ctypes.addressof(given)
        for tensor in inputs:
            _succeed(new_handle(tensor.handle, place), "a tensor's handle")
            place += ctypes.sizeof(c_void_p)
        outputs = (c_void_p * self._outputs)()
        code = self._run(self._container, given, self._inputs, outputs, self._outputs, None, None)
        self._succeed(code, "Run")
        return [_array(c_void_p(handle)) for handle in outputs]

    def read(self, weights: Mapping[str, Tensor]) -> None:
        """Point the graph to the weights that it reads. Raises KeyError or RuntimeError for weights that do not fit."""
        used, entries = list[Tensor](), list[_Constant]()
        for number in range(self._count("GetNumConstants")):
            name, weight, size = c_char_p(), c_char_p(), c_size_t()
            self._call("GetConstantName", self._container, number, byref(name))
            self._call("GetConstantOriginalFQN", self._container, number, byref(weight))
            self._call("GetConstantDataSize", self._container, number, byref(size))
            tensor = weights[(weight.value or b"").decode()]
            if not 0 <= size.value - tensor.array.nbytes < _ROUNDED_UP_TO:
                raise RuntimeError(f"{weight.value!r} has {tensor.array.nbytes} bytes; the graph reads {size.value}")
            used.append(tensor)
            entries.append(_Constant(name.value, tensor.handle))
        array = (_Constant * len(entries))(*entries)
        self._call("UpdateUserManagedConstantBufferPairs", self._container, array, len(entries), False, True)
        # They are to live as long as the graph.
        self._weights = used

    def _count(self, function: str) -> int:
        count = c_size_t()
        self._call(function, self._container, byref(count))
        return count.value

    def _call(self, function: str, *arguments: Any) -> None:
        self._succeed(self._library[f"AOTInductorModelContainer{function}"](*arguments), function)

    def _succeed(self, code: int, what: str) -> None:
        if code == 0:
            return
        text = c_char_p()
        self._library["AOTInductorGetLastError"](byref(text))
        raise RuntimeError(f"AOTInductor's {what} failed: {(text.value or b'').decode('utf-8', 'replace')}")


@functools.cache
def _torch() -> Any:
    """torch's CPU library. Its symbols become global, since graphs look for them there."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        raise RuntimeError("torch is not installed")
    path = Path(found.origin).parent / "lib" / "libtorch_cpu.so"
    library = ctypes.PyDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    _prototyped(library, _TORCH)
    return library


@functools.cache
def _types() -> dict[np.dtype[Any], int]:
    """torch's numbers for the types of elements."""
    return {
        np.dtype(np.float32): _torch().aoti_torch_dtype_float32(),
        np.dtype(np.int64): _torch().aoti_torch_dtype_int64(),
        np.dtype(np.int8): _torch().aoti_torch_dtype_int8(),
    }


def _prototyped(library: ctypes.CDLL, prototypes: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The library's functions by name. Without their argument types, ctypes would cut pointers to 32 bits."""
    functions = dict[str, Any]()
    for name, arguments in prototypes.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise RuntimeError(f"{error}: this torch has another interface") from error
        function.argtypes, function.restype = arguments, c_int32
        functions[name] = function
    return functions


def _array(handle: c_void_p) -> Array:
    """An output's content where it lies. The tensor is deleted with the last array that looks at it."""
    torch = _torch()
    data, dimensions, kind = c_void_p(), c_int64(), c_int32()
    sizes, strides = POINTER(c_int64)(), POINTER(c_int64)()
    for code in (
        torch.aoti_torch_get_data_ptr(handle, byref(data)),
        torch.aoti_torch_get_dim(handle, byref(dimensions)),
        torch.aoti_torch_get_dtype(handle, byref(kind)),
        torch.aoti_torch_get_sizes(handle, byref(sizes)),
        torch.aoti_torch_get_strides(handle, byref(strides)),
    ):
        _succeed(code, "an output's shape")
    (dtype,) = (dtype for dtype, number in _types().items() if number == kind.value)
    shape = tuple(sizes[: dimensions.value])
    steps = tuple(stride * dtype.itemsize for stride in strides[: dimensions.value])
    span = dtype.itemsize + sum((extent - 1) * step for extent, step in zip(shape, steps, strict=True))
    memory = (c_byte * span).from_address(data.value or 0)
    _delete_with(memory, torch.aoti_torch_delete_tensor_object, handle)
    array: Array = np.ndarray(shape, dtype, buffer=memory, strides=steps)
    return array


def _delete_with(owner: object, delete: Any, handle: c_void_p) -> None:
    # Not at the interpreter's end: a thread may be in the middle of a graph then.
    weakref.finalize(owner, delete, handle).atexit = False


def _succeed(code: int, what: str) -> None:
    if code != 0:
        raise RuntimeError(f"torch could not make {what}")
