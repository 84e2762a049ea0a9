"""The door of Inspect AI (extra `inspect`): accord's policies as a model provider, its evaluations as tasks.

    inspect eval TASK --model accord/RUN:stage
    inspect eval accord/evaluation --model accord/RUN:stage -T prompts=xstest.csv -T evals=refusal

Inspect finds `registry.py` by an entry point of the distribution; nothing of accord imports this room.
"""
