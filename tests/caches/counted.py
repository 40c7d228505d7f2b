"""Keys that count their comparisons: a cost that does not depend on the machine."""


class Counted:
    """A key that counts how often keys are compared."""

    comparisons = 0

    def __init__(self, key):
        self.key = key

    def __lt__(self, other):
        Counted.comparisons += 1
        return self.key < other.key
