"""A WebAssembly module in its own store, with limits on memory and tables and a deadline for every call."""

from wasmtime import Func, Instance, Memory, Module, Store, Trap, WasmtimeError

from cubecast.errors import ExtensionRefused
from cubecast.sandbox.abi import Manifest, read_layout
from cubecast.sandbox.binary import COUNTED, TABLE
from cubecast.sandbox.wasm.calls import BoundCall, Parameters, exported, failure_of, memory_view
from cubecast.sandbox.wasm.engine import engine, ticks_of

TABLE_ELEMENTS_MAX = 100_000
"""Maximum number of elements in a module's function table; the host allocates them outside of the module's memory."""
INIT_MS = 100.0
"""Deadline of each of a module's start function, `cubecast_layout` and `init`, ms."""


class ModuleCode:
    """A module in the sandbox; implements Code."""

    def __init__(self, module: Module, manifest: Manifest) -> None:
        """Instantiates the module and reads its layout.

        Raises:
            ExtensionRefused: an export is missing or has a wrong type, or the module asks for more than its limits.
            ExtensionFailed: it trapped or missed a deadline.
        """
        self._store = Store(engine())
        self._store.set_limits(manifest.memory_mib * 2**20, TABLE_ELEMENTS_MAX, 1, COUNTED[TABLE].most, 1)
        self._store.set_epoch_deadline(ticks_of(INIT_MS))
        try:
            self._instance = Instance(self._store, module, [])
        except Trap as trap:
            raise failure_of("its start function", trap) from trap
        except WasmtimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ExtensionRefused(f"it cannot be instantiated: {reason}") from error
        memory = exported(self._store, self._instance, "memory")
        if not isinstance(memory, Memory):
            raise ExtensionRefused("it does not export its memory")
        self._memory = memory
        at = self._bound("cubecast_layout", (), INIT_MS)()
        self._view = memory_view(self._store, memory)
        self.layout = read_layout(self._view, at)
        self.init = self._bound("init", ("i",), INIT_MS)
        self.process_batch = self._bound("process_batch", ("i",), manifest.deadline_ms)
        if manifest.events:
            self.on_event = self._bound("on_event", ("i", "q", "d"), manifest.deadline_ms)

    def memory(self) -> memoryview:
        """See Code; the view is replaced when the memory has grown."""
        if self._memory.data_len(self._store) != len(self._view):
            self._view = memory_view(self._store, self._memory)
        return self._view

    def payload(self, data: int, size: int) -> bytes | None:
        """See Code."""
        view = self._view
        return bytes(view[data : data + size]) if data + size <= len(view) else None

    def memory_bytes(self) -> int:
        """See Code."""
        return int(self._memory.data_len(self._store))

    def close(self) -> None:
        """See Code."""
        self._store.close()

    def _bound(self, name: str, parameters: Parameters, deadline_ms: float) -> BoundCall:
        function = exported(self._store, self._instance, name)
        if not isinstance(function, Func):
            raise ExtensionRefused(f"it does not export the function {name}")
        return BoundCall(self._store, function, name, parameters, ticks_of(deadline_ms))
