"""Node capacity: the deepest exit that a node can train."""
