"""What every training does: steps, checkpoints, what is saved, several processes."""
