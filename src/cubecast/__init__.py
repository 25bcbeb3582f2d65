"""cubecast: live media over a k-ary n-cube of ordinary hosts, each subscriber within its own bound on latency."""

__version__ = "0.1.0"
