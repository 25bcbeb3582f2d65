"""A WebAssembly module that is no extension: any exports, called with numbers. Benchmarks measure calls with it."""

from wasmtime import Func, Instance, Memory, Module, Store, wat2wasm

from cubecast.sandbox.wasm.calls import BoundCall, Parameters, memory_view
from cubecast.sandbox.wasm.engine import engine, ticks_of

CALL_MS = 10_000.0
"""Deadline of each call, ms."""


def assembled(wat: str) -> bytes:
    """The binary form of a module given as text."""
    return bytes(wat2wasm(wat))


class BareModule:
    """One instance of a module given as text; it imports nothing."""

    def __init__(self, wat: str) -> None:
        self._store = Store(engine())
        self._store.set_epoch_deadline(ticks_of(CALL_MS))
        self._instance = Instance(self._store, Module(engine(), assembled(wat)), [])

    def bound(self, name: str, parameters: Parameters) -> BoundCall:
        """An exported function, called as the sandbox calls extensions."""
        return BoundCall(self._store, self._function(name), name, parameters, ticks_of(CALL_MS))

    def plain(self, name: str, *arguments: int) -> int:
        """Calls an exported function through wasmtime's own Python interface."""
        return int(self._function(name)(self._store, *arguments))

    def memory(self) -> memoryview:
        """The module's memory."""
        memory = self._instance.exports(self._store)["memory"]
        assert isinstance(memory, Memory)
        return memory_view(self._store, memory)

    def _function(self, name: str) -> Func:
        function = self._instance.exports(self._store)[name]
        assert isinstance(function, Func)
        return function
