"""What the lab's modules import: every worker of a sweep imports the experiments."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["cubecast.lab.experiments", "cubecast.lab.sweep", "cubecast.cli.experiments.lab"])
def test_only_drawing_loads_matplotlib(module: str) -> None:
    program = f"import sys, {module}; print('matplotlib' in sys.modules); import cubecast.lab.drawing; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True"]
