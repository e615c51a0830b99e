"""Read and write files, parse the command line, and report errors in one line, for every script."""
