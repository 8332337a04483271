"""The result of a search as JSON: all trials, the space, and what they depend on."""

from __future__ import annotations

import platform
import shlex
import sys
from typing import TYPE_CHECKING, Any

from rb_smooth.core import files, robustbench
from rb_smooth.core.environment import git_commit
from rb_smooth.training.tuning.trials import Tuning

if TYPE_CHECKING:
    from optuna import Study


def write_record(study: Study, tuning: Tuning, with_importance: bool = False) -> dict[str, Any]:
    """Write METHOD.json: all trials, the space, and what they depend on."""
    import optuna

    recipe = tuning.recipe
    train, ended = recipe.sections["train"], [trial for trial in study.trials if trial.state.is_finished()]
    complete = [trial for trial in ended if trial.state.name == "COMPLETE"]
    record = {
        "command": f"python -m rb_smooth.tune {shlex.join(sys.argv[1:])}",
        "commit": git_commit(),
        "versions": {
            "python": platform.python_version(),
            **robustbench.package_versions(),
            "optuna": optuna.__version__,
        },
        "dataset": recipe.dataset,
        "method": recipe.method,
        "seed": tuning.seed,
        "epochs": train["epochs"],
        "validation": recipe.sections["data"]["validation"],
        "select_rule": train.get("select_rule", "maximum"),
        **{key: value for key, value in tuning.description.items() if key != "recipe"},
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value if trial.state.name == "COMPLETE" else None,
                "values": tuning.values_of(trial.params),
                **trial.user_attrs,
            }
            for trial in ended
        ],
        "best": max(complete, key=lambda trial: (trial.value, -trial.number)).number if complete else None,
        "importance": _importance(study) if with_importance else {},
    }
    files.write_json(tuning.storage.parent / f"{recipe.method}.json", record)
    return record


def _importance(study: Study) -> dict[str, float]:
    """The share of each key in the variance of complete trials, largest first; empty if it cannot be computed."""
    import optuna

    complete = [trial.value for trial in study.trials if trial.state.name == "COMPLETE"]
    if len(set(complete)) < 2:
        return {}
    return dict(
        optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
    )
