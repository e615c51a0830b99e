"""The parts of `run_pipeline.py`: running stages as child processes, the command of each stage, and the results."""
