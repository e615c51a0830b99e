"""The parts of manual_assessment_tool.py: examples, screen, questions, ratings, agreement, decision and report."""
