"""A pytest plugin for trials/mutants.py: few examples of each law, the same in every run; first without the slow tests, then them."""

import os

import pytest
from hypothesis import Phase, settings

EXAMPLES = "MUTANT_EXAMPLES"
"""Environment variable with the maximum number of examples of one test."""
SLOW_TESTS = "MUTANT_SLOW_TESTS"
"""Environment variable: `yes` to run the slow tests, then the laws; the other tests have passed before."""
MODULE = "MUTANT_MODULE"
"""Environment variable with the name of the mutated module: its own tests run first."""
SLOW = (
    "trees/test_surveyed_trees.py",
    "host/test_chaos.py",
    "host/test_repair.py",
    "host/test_standby.py",
    "host/test_switching.py",
    "test_fan_out_holds_when_everyone_asks_at_once",
    "engine/test_",
)
"""Parts of the names of slow tests: those of large surveyed trees, and of many hosts over seconds of the engine's time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Caps the examples of every law, also of those whose own settings ask for more; failures are not shrunk.

    The tests of the mutated module run first. Then, in a run without the slow tests, those that are no laws; in one with
    them the slow tests.
    """
    slow = os.environ[SLOW_TESTS] == "yes"
    items[:] = [item for item in items if (_is_slow(item) or _is_law(item) if slow else not _is_slow(item))]
    most = int(os.environ[EXAMPLES])
    for item in items:
        law = getattr(item, "obj", None)
        own = getattr(law, "_hypothesis_internal_use_settings", None)  # where the plugin of Hypothesis sets it, too
        if law is None or not getattr(law, "is_hypothesis_test", False):
            continue
        own = own or settings.default
        assert own is not None
        target = getattr(law, "__func__", law)
        target._hypothesis_internal_use_settings = settings(
            own,
            max_examples=min(own.max_examples, most),
            derandomize=True,
            database=None,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
        )
    module = os.environ[MODULE]
    items.sort(key=lambda item: (f"test_{module}.py" not in item.nodeid, slow and not _is_slow(item), _is_law(item)))


def _is_law(item: pytest.Item) -> bool:
    return bool(getattr(getattr(item, "obj", None), "is_hypothesis_test", False))


def _is_slow(item: pytest.Item) -> bool:
    return any(part in item.nodeid for part in SLOW)
