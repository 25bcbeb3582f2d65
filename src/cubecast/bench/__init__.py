"""The benchmarks behind `cubecast bench`. A bar is a ratio of two figures of the same run wherever one is meaningful."""
