"""The edge to the chain: contract bindings, reads at a pinned block, the one sender, events."""
