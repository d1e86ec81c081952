"""Graph to graph: simplification, fusion, memory."""
