"""Editors: each proposes how to make one fact of a summary wrong. `negative_editors` lists them all."""
