"""Another party's tree as a challenger knows it: its own, overlaid by what was shown.

A descent follows the first child that differs, so everything left of the path is equal
on both sides, and what hangs beside the path has been shown. That is all that paths to
equal leaves need.
"""

from collections.abc import Callable, Sequence

Parent = Callable[[bytes, bytes], bytes]


class Overlay:
    """A binary tree overlaid by shown nodes; ``levels[0]`` are the padded leaves."""

    def __init__(self, levels: Sequence[Sequence[bytes]], parent: Parent) -> None:
        """Start from one's own tree."""
        self.levels = [list(level) for level in levels]
        self._parent = parent

    def show(self, level: int, first: int, nodes: Sequence[bytes]) -> None:
        """Take over nodes of a level from index ``first``, and their ancestors."""
        current = list(nodes)
        while True:
            self.levels[level][first : first + len(current)] = current
            if len(current) == 1:
                return
            current = [
                self._parent(current[i], current[i + 1])
                for i in range(0, len(current), 2)
            ]
            level, first = level + 1, first // 2

    def path(self, index: int) -> list[bytes]:
        """Return the siblings of a leaf, bottom-up."""
        return [level[index >> i ^ 1] for i, level in enumerate(self.levels[:-1])]
