"""Results that other tools made of a policy: lm-evaluation-harness and Inspect AI, read as figures.

figures.py      what a tool measured, with its interval, and its difference to a baseline's
lm_eval.py      results_*.json, with the samples_*.jsonl beside it where they were logged
inspect_log.py  evaluation logs, .json and .eval
read.py         a file or folder, whichever of them wrote it
"""
