"""The local leaderboard: entries, submission, verification, reports, the page.

Imports every folder but analysis. Open entries.py first, then submission.py.
"""
