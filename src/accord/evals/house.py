"""The house's own evaluations: importing this registers them."""

import accord.evals.bias
import accord.evals.choice
import accord.evals.classified
import accord.evals.feedback
import accord.evals.gold
import accord.evals.length
import accord.evals.mt_bench
import accord.evals.premise
import accord.evals.refusal
import accord.evals.spread
import accord.evals.sycophancy  # noqa: F401
