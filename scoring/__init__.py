"""Compute log-probabilities of completions: packed rows and packed attention, or a padded batch."""
