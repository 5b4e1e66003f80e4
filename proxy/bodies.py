"""The memory that request bodies may take, all together: a count of bytes, and no waiting.

Whoever finds no room is told to come again. Waiting for room could be a deadlock: every body half read, all of them
waiting for the others.
"""


class Bodies:
    """One worker's count. Bodies of up to `FREE` bytes are not counted: connections bound those."""

    __slots__ = ("held",)

    FREE = 64 * 1024  # bytes of a body that come before it is counted, and the steps in which it then is

    def __init__(self) -> None:
        self.held = 0  # bytes

    def take(self, size: int, limit: int) -> bool:
        """Set `size` bytes aside, unless that makes more than `limit`."""
        if self.held + size > limit:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        self.held -= size
