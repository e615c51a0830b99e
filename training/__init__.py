"""What both training stages share: run folder, checkpoints, metrics log, batch plan, memory estimate, adapters."""
