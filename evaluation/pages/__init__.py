"""Templates, style and script of the result pages, and the geometry of what they draw."""
