"""The house's own ways to learn from a policy's own answers, a file each."""

from accord.train.online.methods import ppo, rloo, grpo, online_dpo, best_of_n  # noqa: F401, I001 - as listed
