"""How deep a model this node can train."""
