"""Trainings on a policy's own answers, a method a file."""
