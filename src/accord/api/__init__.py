"""The door for Python: trainings, evaluation and runs as functions. `accord` names them all."""
