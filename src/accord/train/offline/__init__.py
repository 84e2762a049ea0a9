"""Trainings on data: demonstrations, comparisons, labels."""
