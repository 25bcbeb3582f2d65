"""Modules that are no extensions: any exports, called with numbers. For measuring."""

from wasmtime import Func, Instance, Memory, Module, Store, wat2wasm

from cubecast.sandbox.wasm.calls import BoundCall, Parameters, memory_view
from cubecast.sandbox.wasm.engine import engine, ticks_of

CALL_MS = 10_000.0


def assembled(wat: str) -> bytes:
    """A module's text as the module."""
    return bytes(wat2wasm(wat))


class Kernel:
    """One instance of a module given as text."""

    def __init__(self, wat: str) -> None:
        self._store = Store(engine())
        self._store.set_epoch_deadline(ticks_of(CALL_MS))
        self._instance = Instance(self._store, Module(engine(), assembled(wat)), [])

    def bound(self, name: str, parameters: Parameters) -> BoundCall:
        """An export, as the sandbox calls it."""
        return BoundCall(self._store, self._function(name), name, parameters, ticks_of(CALL_MS))

    def plain(self, name: str, *arguments: int) -> int:
        """An export called as wasmtime for Python does."""
        return int(self._function(name)(self._store, *arguments))

    def memory(self) -> memoryview:
        """Its memory."""
        memory = self._instance.exports(self._store)["memory"]
        assert isinstance(memory, Memory)
        return memory_view(self._store, memory)

    def _function(self, name: str) -> Func:
        function = self._instance.exports(self._store)[name]
        assert isinstance(function, Func)
        return function
