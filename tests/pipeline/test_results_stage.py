"""What other tools measured, in the report: base against policy."""

from __future__ import annotations

from pathlib import Path

import accord
from tests.evals.test_outside import LESS, RIGHT, lm_eval
from tests.pipeline.tiny_recipe import save_tiny_model


def test_the_report_has_them_and_a_new_file_runs_it_again(tmp_path: Path) -> None:
    for name, values in (("dpo", RIGHT), ("base", LESS)):
        lm_eval(tmp_path / name, {"arc": values, "boolq": RIGHT})
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"""\
name: tax
model: {save_tiny_model(tmp_path / "m")}
stages:
  tax: {{kind: results, policy: base, files: [dpo], against: [base]}}
""")
    run = accord.run(recipe, runs=tmp_path / "runs")
    page = run.report.read_text()
    for said in (
        "What other tools measured",
        "lm-eval arc",
        "0.25 [",
        "mean of their first measures",
    ):
        assert said in page
    lm_eval(tmp_path / "dpo", {"arc": LESS, "boolq": RIGHT})
    again = accord.run(recipe, runs=tmp_path / "runs")
    assert "0.25 [" not in again.report.read_text()
