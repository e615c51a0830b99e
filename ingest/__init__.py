"""From a user's export to Phase 1 files: tables, columns, splits, redaction, evidence and the audit."""
