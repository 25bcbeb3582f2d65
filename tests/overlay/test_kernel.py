"""The mark of a kernel."""

from cubecast.overlay.kernel import is_kernel, kernel


def test_a_function_is_a_kernel_only_if_it_is_marked_and_is_otherwise_unchanged() -> None:
    def doubled(number: int) -> int:
        return 2 * number

    assert not is_kernel(doubled)
    assert kernel(doubled) is doubled
    assert is_kernel(doubled)
    assert doubled(3) == 6
