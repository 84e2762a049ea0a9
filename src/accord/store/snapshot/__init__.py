"""Frozen selections of judgments, read as what training reads."""
