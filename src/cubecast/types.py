"""Distinct types for identifiers, and the array types that all packages share."""

from typing import NewType, TypeAlias

import numpy as np
import numpy.typing as npt

HostId = NewType("HostId", str)
"""A host's name, unique in its overlay."""
NOBODY = HostId("")
"""Stands for no host: names have at least one character."""
ChannelName = NewType("ChannelName", str)
"""A channel's name, unique in its overlay."""
NO_CHANNEL = ChannelName("")
"""Stands for no channel: names have at least one character."""
Label = NewType("Label", int)
"""A position in the cube: the base-k digits d[0] .. d[n-1] packed as sum(d[i] * k**i)."""
ORIGIN = Label(0)
"""The label whose digits are all 0."""

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Milliseconds: TypeAlias = npt.NDArray[np.float32]
"""Delays of large networks in ms: single precision halves the memory; its error, 1 part in 10^7, is negligible."""
Indices: TypeAlias = npt.NDArray[np.int32]
"""Hosts, labels or links as indices; -1 means none."""
