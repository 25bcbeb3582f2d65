"""A pytest plugin for trials/mutants.py: laws are tried on few examples, the same in every run, after all other tests."""

import os

import pytest
from hypothesis import Phase, settings

EXAMPLES = "MUTANT_EXAMPLES"
"""Environment variable with the maximum number of examples of one test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Caps the examples of every law, also of those whose own settings ask for more; failures are not shrunk."""
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
    items.sort(key=lambda item: getattr(getattr(item, "obj", None), "is_hypothesis_test", False))  # these take longest
