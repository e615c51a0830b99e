"""Files, errors and provenance: what every script reads, writes and says when something is wrong."""
