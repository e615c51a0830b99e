"""The parts of manual_assessment_tool.py: examples, screen, questions, session, ratings, comparison and report."""
