"""Names for values that must not be mixed up, and the array types the floors share."""

from typing import NewType, TypeAlias

import numpy as np
import numpy.typing as npt

HostId = NewType("HostId", str)
ChannelName = NewType("ChannelName", str)
Label = NewType("Label", int)
"""A position in the cube: the base-k digits d[0] .. d[n-1] packed as sum(d[i] * k**i)."""
ORIGIN = Label(0)

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Milliseconds: TypeAlias = npt.NDArray[np.float32]
"""Delays of large networks: single precision halves the memory, and 1 part in 10^7 of a delay is nothing."""
Indices: TypeAlias = npt.NDArray[np.int32]
"""Hosts, labels or links as indices; -1 means none."""
