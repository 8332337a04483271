"""Planted bugs, each of which must make some test fail: python tests/mutants.py [--write docs/mutants.md]

Every mutant is one replacement in one file of a scratch copy of the package, on which the tests that answer for that
file are then run. A mutant that survives is a hole in the tests, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    bug: str
    file: str
    old: str
    new: str


AWP, EMA = "components/perturbations/awp.py", "components/averaging/ema.py"
AT, TRADES, MART, KL, ATTACKS = (
    "components/objectives/at.py",
    "components/objectives/trades.py",
    "components/objectives/mart.py",
    "components/losses.py",
    "components/attacks.py",
)
CHAIN, ENSGD, ENSGD2, SGD = (
    "components/optimizers/_langevin.py",
    "components/optimizers/entropy_sgd.py",
    "components/optimizers/entropy_sgd2.py",
    "components/optimizers/sgd.py",
)
BATCHNORM, WEIGHTS, COUPLING, SESSION = (
    "components/batchnorm.py",
    "components/weights.py",
    "training/step.py",
    "training/trainer.py",
)
STATES, FILES, NETWORKS, EPOCHS = (
    "training/run_folder/resume.py",
    "core/files.py",
    "training/model_setup.py",
    "training/loop.py",
)
PROCESSES, GUARDS, EVALUATION, TRAINING = (
    "core/distributed.py",
    "training/diagnostics.py",
    "evaluation/accuracy.py",
    "training/loop.py",
)
TRUST, ASSESSMENT, SUBMISSION, AUDIT, RADII = (
    "evaluation/checks/__init__.py",
    "evaluation/evaluator.py",
    "leaderboard/submission.py",
    "leaderboard/verification.py",
    "evaluation/radii.py",
)
FORWARD, GRADIENTS, UNDER_ATTACK = (
    "evaluation/checks/forward.py",
    "evaluation/checks/gradients.py",
    "evaluation/checks/attack.py",
)
PROTOCOLS, ATTACKERS, UNITS, CREWS = (
    "evaluation/autoattack.py",
    "evaluation/attack_workers.py",
    "evaluation/attack_cache.py",
    "core/worker_pool.py",
)
LOGS, CURVES, REPORTS, SCALARS, SUMMARIES = (
    "training/run_folder/log.py",
    "training/run_folder/curves.py",
    "training/run_folder/reporting.py",
    "training/run_folder/reporting.py",
    "training/run_folder/summary.py",
)
COMPARISON, ATTEMPTS, WORKERS, SWEEP = (
    "training/sweep/comparison.py",
    "training/sweep/job_process.py",
    "training/sweep/job_queue.py",
    "training/sweep/sweep.py",
)
IMAGES, STREAMING, SECTIONS = "data/images.py", "data/prefetch.py", "config/sections.py"
LOSSES, CURVATURE, PROBES = (
    "analysis/adversarial_loss.py",
    "analysis/smoothness/curvature.py",
    "analysis/smoothness/probes.py",
)
PRETRAINED, CREDITS, MEASUREMENT, API, PIPELINE = (
    "training/model_setup.py",
    "leaderboard/metadata.py",
    "evaluation/custom_model.py",
    "api.py",
    "training/pipeline.py",
)
SHARPNESS, RECORDS, SPECIMENS = (
    "analysis/smoothness/curvature.py",
    "analysis/smoothness/records.py",
    "analysis/trained_model.py",
)
LINEAR, CONCAVE, SMOOTHED, ROWS = (
    "analysis/theory/linear.py",
    "analysis/theory/implicit.py",
    "analysis/theory/entropy.py",
    "analysis/theory/results.py",
)
DIRECTIONS, GRIDS, SLICES = (
    "analysis/landscape/directions.py",
    "analysis/landscape/compute.py",
    "analysis/landscape/slices.py",
)
SURFACES, BANDS, DRAWN = (
    "analysis/landscape/grid.py",
    "analysis/landscape/aggregate.py",
    "analysis/landscape/plot.py",
)
COMMANDLINE = "core/cli.py"
PLUGINS, REGISTRY, COOKBOOK, DECLARATION = (
    "config/plugins.py",
    "config/registry.py",
    "config/resolver.py",
    "config/schema.py",
)
SUBJECTS, OPTIMIZER_LAWS = "components/conformance/fixtures.py", "components/conformance/optimizers.py"
KEYS, REFERENCE = "config/reference.py", "config/reference.py"
RUN_FOLDER, CRASHES = "training/run_folder/run.py", "core/crashes.py"
ZOO, STANDINS, OUTSIDERS, BRIDGE = (
    "leaderboard/zoo.py",
    "core/robustbench_shims.py",
    "leaderboard/external.py",
    "core/robustbench.py",
)

TESTS = {
    AWP: ["test_awp.py", "test_distributed.py"],
    EMA: ["test_methods.py"],
    AT: ["test_at.py", "test_methods.py"],
    TRADES: ["test_trades.py"],
    MART: ["test_mart.py"],
    KL: ["test_trades.py"],
    ATTACKS: ["test_at.py", "test_trades.py", "test_methods.py"],
    CHAIN: ["test_entropy_sgd.py", "test_methods.py", "test_torch_optimizer_api.py"],
    ENSGD: ["test_entropy_sgd.py"],
    ENSGD2: ["test_entropy_sgd2.py"],
    SGD: ["test_methods.py", "test_entropy_sgd.py", "test_torch_optimizer_api.py"],
    BATCHNORM: ["test_batchnorm.py", "test_methods.py", "test_awp.py", "test_distributed.py"],
    IMAGES: ["test_image_files.py"],
    STREAMING: ["test_image_files.py"],
    SECTIONS: ["test_image_files.py"],
    WEIGHTS: ["test_batchnorm.py", "test_awp.py", "test_methods.py"],
    COUPLING: ["test_awp.py", "test_training.py", "test_distributed.py"],
    SESSION: ["test_training.py", "test_extra_images.py", "test_distributed.py"],
    STATES: ["test_resume.py"],
    FILES: ["test_resume.py"],
    NETWORKS: ["test_model_setup.py", "test_training.py", "test_pretrained.py"],
    EPOCHS: ["test_training.py"],
    PROCESSES: ["test_distributed.py"],
    GUARDS: ["test_diagnostics.py", "test_distributed.py"],
    PROTOCOLS: ["test_autoattack.py", "test_distributed.py"],
    ATTACKERS: ["test_autoattack.py"],
    UNITS: ["test_autoattack.py"],
    "leaderboard/entries.py": ["test_leaderboard.py", "test_recipe_program.py"],
    **{file: ["test_cli.py"] for file in (COMMANDLINE, "core/console.py", "core/errors.py")},
    "core/determinism.py": ["test_autoattack.py"],
    EVALUATION: ["test_distributed.py", "test_evaluation.py"],
    **{file: ["test_trust.py"] for file in (TRUST, FORWARD, GRADIENTS, UNDER_ATTACK)},
    "evaluation/per_example.py": ["test_per_example.py"],
    **{file: ["test_leaderboard.py"] for file in (ASSESSMENT, AUDIT, RADII)},
    SUBMISSION: ["test_api.py", "test_leaderboard.py"],
    TRAINING: ["test_training.py", "test_distributed.py"],
    "components/checkpoints.py": ["test_model_setup.py"],
    "core/worker_pool.py": ["test_training.py"],
    "training/cost.py": ["test_model_setup.py"],
    LOGS: ["test_curves.py"],
    CURVES: ["test_curves.py"],
    REPORTS: ["test_curves.py"],
    SCALARS: ["test_tensorboard.py"],
    **{file: ["test_runs.py"] for file in (SUMMARIES, RUN_FOLDER, CRASHES)},
    COMPARISON: ["test_comparison.py"],
    ATTEMPTS: ["test_job_queue.py"],
    WORKERS: ["test_job_queue.py"],
    SWEEP: ["test_sweep.py"],
    **{file: ["test_smoothness.py"] for file in (LOSSES, CURVATURE, PROBES, SHARPNESS, RECORDS)},
    SPECIMENS: ["test_trained_model.py"],
    **{file: ["test_pretrained.py"] for file in (PRETRAINED, CREDITS)},
    BRIDGE: ["test_pretrained.py", "test_robustbench.py"],
    **{file: ["test_robustbench.py", "test_robustbench_import.py"] for file in (ZOO, STANDINS, OUTSIDERS)},
    "doctor.py": ["test_doctor.py"],
    **{file: ["test_api.py"] for file in (MEASUREMENT, API, PIPELINE)},
    **{file: ["test_theory_problems.py", "test_theory_properties.py"] for file in (LINEAR, CONCAVE, SMOOTHED)},
    "analysis/theory/smoothing_statements.py": ["test_theory_problems.py", "test_theory.py"],
    **{file: ["test_theory.py"] for file in (ROWS, "analysis/theory/numeric.py", "theory.py")},
    CREWS: ["test_worker_pool.py"],
    **{file: ["test_landscape.py"] for file in (DIRECTIONS, GRIDS, SLICES, SURFACES, BANDS, DRAWN)},
    **{file: ["test_plugins.py"] for file in (PLUGINS, REGISTRY, COOKBOOK, DECLARATION)},
    **{file: ["test_conformance.py"] for file in (SUBJECTS, OPTIMIZER_LAWS)},
    **{file: ["test_recipe_keys.py"] for file in (KEYS, REFERENCE)},
}
"""The tests that answer for a file."""
TESTS |= {  # files that several of before have become, or parts of one
    "data/images.py": ["test_image_files.py", "test_api.py"],
    "training/model_setup.py": ["test_model_setup.py", "test_training.py", "test_pretrained.py"],
    "evaluation/score.py": ["test_leaderboard.py", "test_recipe_program.py"],
    "leaderboard/verification.py": ["test_leaderboard.py", "test_api.py"],
    "core/worker_pool.py": ["test_training.py", "test_worker_pool.py"],
    "training/run_folder/reporting.py": ["test_curves.py", "test_tensorboard.py"],
    "core/statistics.py": ["test_comparison.py", "test_smoothness.py"],
}

MUTANTS = [
    Mutant("AWP descends", AWP, "[self.gamma * of_w /", "[-self.gamma * of_w /"),
    Mutant("AWP forgets the weights' norms", AWP, "[self.gamma * of_w /", "[self.gamma /"),
    Mutant("AWP forgets gamma", AWP, "[self.gamma * of_w /", "[of_w /"),
    Mutant("AWP perturbs BatchNorm and biases too", AWP, "p.requires_grad and p.ndim > 1", "p.requires_grad"),
    Mutant("AWP perturbs frozen weights", AWP, "p.requires_grad and p.ndim > 1", "p.ndim > 1"),
    Mutant("AWP divides by zero", AWP, "(of_g + 1e-20)", "of_g"),
    Mutant("AWP moves BatchNorm's statistics", AWP, "with frozen_running_stats(model), torch", "with torch"),
    Mutant("weights are not restored", WEIGHTS, "tensor.copy_(value)", "pass"),
    Mutant(
        "weights are not restored after an exception",
        WEIGHTS,
        "    try:\n        yield\n    finally:\n        with torch.no_grad():",
        "    yield\n    if True:\n        with torch.no_grad():",
    ),
    Mutant("a shift is subtracted", WEIGHTS, "torch._foreach_add_(list(weights)", "torch._foreach_sub_(list(weights)"),
    Mutant("parameters stay frozen", WEIGHTS, "parameter.requires_grad_(True)", "pass"),
    Mutant("the chain is pushed from w", CHAIN, "lerp_(chain, w, inner_lr * gamma)", "lerp_(chain, w, -inner_lr * gamma)"),
    Mutant("the chain is not pulled to w", CHAIN, "lerp_(chain, w, inner_lr * gamma)", "lerp_(chain, w, 0.0)"),
    Mutant("the pull is not scaled by inner_lr", CHAIN, "lerp_(chain, w, inner_lr * gamma)", "lerp_(chain, w, gamma)"),
    Mutant("the chain ascends", CHAIN, "(chain, d, alpha=-inner_lr)", "(chain, d, alpha=inner_lr)"),
    Mutant("the noise is the paper's, not the code's", CHAIN, "noise * (2 * inner_lr) ** 0.5", "noise * inner_lr**0.5"),
    Mutant("the noise ignores its generator", CHAIN, "normal_(generator=generator)", "normal_()"),
    Mutant("beta weighs the new iterate", CHAIN, 'chain, 1 - group["beta"])', 'chain, group["beta"])'),
    Mutant("the outer step ascends", CHAIN, "nesterov), alpha=-lr)", "nesterov), alpha=lr)"),
    Mutant("w is not decayed", CHAIN, "(gradients, w, alpha=weight_decay)", "(gradients, w, alpha=0.0)"),
    Mutant("the chain is not decayed", CHAIN, "(gradients, chain, alpha=weight_decay)", "(gradients, chain, alpha=0.0)"),
    Mutant("the last parameters are left alone", CHAIN, "    if bundle:\n        yield bundle\n", ""),
    Mutant("what was moved is moved again", CHAIN, "            yield bundle\n            bundle = []\n", "            yield bundle\n"),
    Mutant("the momentum is damped", CHAIN, "torch._foreach_add_(buffer, d)", "torch._foreach_add_(buffer, d, alpha=0.1)"),
    Mutant("Nesterov is always on", CHAIN, "    if not nesterov:\n        return buffer\n", ""),
    Mutant("the inner momentum is kept", CHAIN, '            torch._foreach_zero_([s["m"] for s in states])\n', "            pass\n"),
    Mutant("the mean is kept", CHAIN, '        torch._foreach_copy_([s["mu"] for s in states], w)\n', ""),
    Mutant("the chain goes on from where it was", CHAIN, "        torch._foreach_copy_(chain, w)\n", ""),
    Mutant("the inner loop is one too long", CHAIN, 'group["k"] == group["inner_steps"]', 'group["k"] > group["inner_steps"]'),
    Mutant("the counter is not reset", CHAIN, '                group["k"] = 0\n', ""),
    Mutant("eval brings the chain", CHAIN, "                        p.copy_(other)\n", ""),
    Mutant("eval moves the storage", CHAIN, "                        p.copy_(other)\n", "                        p.data = other.clone()\n"),
    Mutant("steps in eval mode are taken", CHAIN, 'if not all(group["train_mode"] for group in self.param_groups)', "if False"),
    Mutant("EntropySGD's outer gradient has the wrong sign", ENSGD, '([s["w"] for s in states], [s["mu"] for s in states])', '([s["mu"] for s in states], [s["w"] for s in states])'),
    Mutant("the variance is subtracted with the wrong sign", ENSGD2, '(curvature, -group["gamma"])', '(curvature, group["gamma"])'),
    Mutant("the step is multiplied by the curvature", ENSGD2, "torch._foreach_div_(d, curvature)", "torch._foreach_mul_(d, curvature)"),
    Mutant("the curvature has no floor", ENSGD2, '    torch._foreach_clamp_min_(curvature, group["curvature_floor"])\n', "    pass\n"),
    Mutant("the variance is around the new mean", ENSGD2, "    distance = list(torch._foreach_sub(chain, mu))\n    torch._foreach_lerp_(mu, chain, 1 - beta)\n", "    torch._foreach_lerp_(mu, chain, 1 - beta)\n    distance = list(torch._foreach_sub(chain, mu))\n"),
    Mutant("the variance survives the outer step", ENSGD2, "        torch._foreach_zero_(curvature)\n", ""),
    Mutant("clamped weights are not counted", ENSGD2, '["clamped"].to(below.device) + below', '["clamped"]'),
    Mutant("the count is never reset", ENSGD2, 'torch.zeros_like(group["clamped"]), 0', 'group["clamped"], group["divided"]'),
    Mutant("SGD is always Nesterov's", SGD, "momentum=momentum, nesterov=nesterov,", "momentum=momentum, nesterov=momentum > 0,"),
    Mutant("AT trains on clean images", AT, "logits = model(x_adv)", "logits = model(x)"),
    Mutant("AT crafts in eval mode", AT, "input_gradient_mode(model, self.bn_mode)", 'input_gradient_mode(model, "eval")'),
    Mutant("AT's label smoothing is lost", AT, ", label_smoothing=self.label_smoothing", ""),
    Mutant("the ball is half as large", ATTACKS, "attack(model, eps=threat.eps,", "attack(model, eps=threat.eps / 2,"),
    Mutant("the norm is always Linf", ATTACKS, 'torchattacks.PGD if threat.norm == "Linf" else _PGDL2', "torchattacks.PGD"),
    Mutant("PGD starts at x", ATTACKS, "random_start=True", "random_start=False"),
    Mutant("crafting moves BatchNorm's statistics", ATTACKS, "batchnorm.frozen_running_stats(model), ", ""),
    Mutant("crafting computes the weights' gradients", ATTACKS, ", weights.no_param_grad(model)", ""),
    Mutant("images must be contiguous", ATTACKS, "crafter.forward(x.contiguous(), y)", "crafter.forward(x, y)"),
    Mutant("the divergence is reversed", KL, "F.kl_div(log_probabilities(other_logits), log_probabilities(logits)", "F.kl_div(log_probabilities(logits), log_probabilities(other_logits)"),
    Mutant("the clean prediction gets no gradient", TRADES, "kl_divergence(clean, attacked)", "kl_divergence(clean.detach(), attacked)"),
    Mutant("beta is forgotten", TRADES, "natural + self.beta * kl", "natural + kl"),
    Mutant("TRADES' first term is of the attacked images", TRADES, "F.cross_entropy(clean, y", "F.cross_entropy(attacked, y"),
    Mutant("TRADES' logits are the clean ones", TRADES, ".mean(), attacked)", ".mean(), clean)"),
    Mutant("TRADES' batches share their statistics", TRADES, "clean, attacked = model(x), model(x_adv)", "import torch\n\n        clean, attacked = model(torch.cat([x, x_adv])).chunk(2)"),
    Mutant("MART weighs by confidence", MART, "unsure = 1 - clean", "unsure = clean"),
    Mutant("MART's weight gets no gradient", MART, "unsure = 1 - clean.softmax", "unsure = 1 - clean.detach().softmax"),
    Mutant("MART's rival may be the right class", MART, "log.scatter(1, y[:, None], -torch.inf).argmax", "log.argmax"),
    Mutant("MART's margin has the wrong sign", MART, 'reduction="none") - all_but_rival', 'reduction="none") + all_but_rival'),
    Mutant("MART's divergence is reversed", MART, "kl_divergence(clean, attacked)", "kl_divergence(attacked, clean)"),
    Mutant("the average forgets what it should keep", EMA, "deployed, 1 - tau)", "deployed, tau)"),
    Mutant("the average has no ramp", EMA, "min(self.decay, (1 + t) / (10 + t))", "self.decay"),
    Mutant("the average is the weights themselves", EMA, "[w.detach().clone() for w in deployed]", "[w.detach() for w in deployed]"),
    Mutant("recalibration keeps the past", BATCHNORM, "            layer.reset_running_stats()\n", ""),
    Mutant("recalibration is exponential", BATCHNORM, "layer.momentum = None", "layer.momentum = 0.1"),
    Mutant("recalibration sees clean images", BATCHNORM, "objective.loss(model, x, x_adv, y)", "objective.loss(model, x, x, y)"),
    Mutant("layers frozen by hand thaw", BATCHNORM, "if layer.training or not model.training", ""),
    Mutant("the gradient is taken at w", COUPLING, "    with perturbation(network, lambda: objective.loss(network, x, x_adv, y).loss):\n", "    with perturbation(network, lambda: objective.loss(network, x, x_adv, y).loss):\n        pass\n    if True:\n"),
    Mutant("gradients add up", COUPLING, "        optimizer.zero_grad(set_to_none=True)\n", ""),
    Mutant("the average reads the chain", COUPLING, "optimizer.deployed(), t)", "list(model.parameters()), t)"),
    Mutant("a new stage starts from the chain", SESSION, "                if epoch > 0:\n                    self.optimizer.eval()\n", ""),
    Mutant("what is looked at is the chain", SESSION, "        deployed = self.optimizer.deployed()\n", "        self.optimizer.train()\n        deployed = [p.detach().clone() for p in self.model.parameters()]\n"),
    Mutant("every minibatch adds the same noise", SESSION, "derive_seed(self.seed, NOISE, self.t)", "derive_seed(self.seed, NOISE, 0)"),
    Mutant("inputs are always standardised", NETWORKS, "recipe.data.standardise and zoo_model", "zoo_model"),
    Mutant("the state before is not kept", STATES, "        os.replace(resume, previous)\n", "        resume.unlink()\n"),
    Mutant("a new state takes the place of the old one before it is whole", STATES, "newest, resume, previous = (folder", "resume, newest, previous = (folder"),
    Mutant("states of newer versions are taken", STATES, "> FORMAT:", "> FORMAT + 1000:"),
    Mutant("checksums are not checked", FILES, "if zipfile.is_zipfile(path):", "if False:"),
    Mutant("ties go to the later epoch", EPOCHS, 'row["best"] = metric > trainer.best', 'row["best"] = metric >= trainer.best'),
    Mutant("each process ascends on its own share", AWP, "        distributed.all_reduce_mean(g)", "        # distributed.all_reduce_mean(g)"),
    Mutant("the gradient of the network itself is taken", COUPLING, "outcome = objective.loss(model, x", "outcome = objective.loss(network, x"),
    Mutant("shares leave images out", PROCESSES, "tensor[rank() :: world_size()]", "tensor[rank() : len(tensor) // 2 : world_size()]"),
    Mutant("means are sums", PROCESSES, "    torch._foreach_div_(list(tensors), world_size())\n", ""),
    Mutant("kept minibatches are put together in the wrong order", PROCESSES, "torch.stack(parts, dim=1).flatten(0, 1)", "torch.cat(parts)"),
    Mutant("a stop reaches one process only", TRAINING, "distributed.all_reduce_any(bool(stop), time.monotonic() - saved_at > saved_every_s)", "bool(stop), False"),
    Mutant("each process's noise is its own", SESSION, "derive_seed(self.seed, NOISE, self.t)", "derive_seed(self.seed, NOISE, self.t) ^ processes.rank()"),
    Mutant("statistics of a process are lost", SESSION, "by_rank[distributed.rank() % len(by_rank)]", "by_rank[0]"),
    Mutant("the loss of one process is logged", EPOCHS, "distributed.all_reduce_sum(trainer.sums)", "trainer.sums"),
    Mutant("statistics are not pooled", BATCHNORM, "    if distributed.world_size() > 1:\n", "    if False:\n"),
    Mutant("pooled variances forget the means", BATCHNORM, "layer.running_var.copy_(square - mean**2)", "layer.running_var.copy_(square)"),
    Mutant("drift is not seen", GUARDS, "if others := distributed.ranks_that_differ(_checksums(trainer)):", "if others := []:"),
    Mutant("a loss of another process is not seen", GUARDS, "int(distributed.all_reduce_min(trainer.first_nonfinite_step))", "int(trainer.first_nonfinite_step)"),
    Mutant("other images in a process are not seen", GUARDS, "distributed.ranks_that_differ(trainer.input_hashes)", "[]"),
    Mutant("a model is not given back as it came", TRUST, "weights.preserve(tensors),\n        ", ""),
    Mutant("gradients are looked at in the points alone", GRADIENTS, "torch.cat([context.x, within])", "torch.cat([context.x, context.x])"),
    Mutant("one point is a sign", UNDER_ATTACK, "max(_FEW, limit * points)", "limit * points"),
    Mutant("an average over mirror images is a loop", FORWARD, "_PASSES = 2.5", "_PASSES = 1.5"),
    Mutant("what is no adversarial example is kept as one", "evaluation/per_example.py", "wrong = outside | (", "wrong = outside & ("),
    Mutant("points are told of as the trained mode sees them", ASSESSMENT, "    model.eval()\n", ""),
    Mutant("what is replaced is lost", SUBMISSION, "            _archive_entry(entry)\n", ""),
    Mutant("doubts are not told", SUBMISSION, '"unreliable": bool(doubts)', '"unreliable": False'),
    Mutant("an unknown option is passed over", COMMANDLINE, "        if unread:", "        if False:"),
    Mutant("options are guessed at", COMMANDLINE, "allow_abbrev=False", "allow_abbrev=True"),
    Mutant("-q keeps its remarks", COMMANDLINE, "Verbosity.QUIET", "Verbosity.NORMAL"),
    Mutant("-v shows no traceback", "core/cli.py", "        traceback.print_exc()", "        pass"),
    Mutant("JSON comes with the table", "core/console.py", "console.stderr = True", "console.stderr = False"),
    Mutant("the script's help speaks of modules", COMMANDLINE, 'text.replace(_MODULE, f"{SCRIPT} ")', "text"),
    Mutant("any weights pass for those measured", "leaderboard/entries.py", "files.sha256(self.weights) == self.own.get(\"weights_sha256\")", "True"),
    Mutant("verify counts figures alone", AUDIT, "and not self.points", ""),
    Mutant("radii of both norms are one", RADII, "L2_PER_LINF = 0.5 / (8 / 255)", "L2_PER_LINF = 1.0"),
    Mutant("each process counts its own", EVALUATION, "distributed.all_reduce_sum(flags)", "flags"),
    Mutant("starts depend on the number of processes", EVALUATION, "torch.manual_seed(seed + number)", "torch.manual_seed(seed + number + processes.rank())"),
    Mutant("what other processes found is lost", PROTOCOLS, "    for others in distributed.all_gather_object(results):\n        results |= others\n", "    results |= {batch.batch_index: BatchResult(torch.ones(len(batch.points), dtype=torch.bool), torch.zeros(len(batch.points)), 0.0, [], torch.zeros(0)) for batch in batches if batch.batch_index not in results}\n"),
    Mutant("attacks see broken points again", PROTOCOLS, "survivors = robust.nonzero().flatten()", "survivors = torch.arange(len(y))"),
    Mutant("broken points are put in other places", PROTOCOLS, "robust[batch.points], margin", "robust[: len(batch.points)], margin"),
    Mutant("quick is AutoAttack", PROTOCOLS, '"quick": robustbench.ATTACKS[:2]', '"quick": robustbench.ATTACKS'),
    Mutant("standard takes another attack's word", PROTOCOLS, 'initially_robust is not None and version == "standard"', "False"),
    Mutant("nothing is looked up", PROTOCOLS, "None if cache is None else cache.load(batch)", "None"),
    Mutant("nothing is kept", PROTOCOLS, "                cache.save(batch, result)\n", "                pass\n"),
    Mutant("the wrong attack is named", PROTOCOLS, "broken_by[broken] = place", "broken_by[batch.points] = place"),
    Mutant("attacks run in train mode", ATTACKERS, "            self.model.eval()\n", ""),
    Mutant("attacks compute gradients of weights", ATTACKERS, "            weights.no_param_grad(self.model),\n", ""),
    Mutant("attacks compute in TF32", ATTACKERS, "            full_float32(),\n", ""),
    Mutant("margins are between the two highest", ATTACKERS, "logits.scatter(1, y[:, None], -torch.inf).amax(1)", "logits.amax(1)"),
    Mutant("forward passes of workers are not counted", ATTACKERS, "            on_progress(now - reported)\n", ""),
    Mutant("workers take more threads than they may", ATTACKERS, "min(threads, torch.get_num_threads())", "threads"),
    Mutant("findings answer for any evaluation", UNITS, "json.dumps(cache_key, sort_keys=True)", "json.dumps({})"),
    Mutant("findings answer for other points", UNITS, 'saved["points"] == batch.points.tolist() and', ""),
    Mutant("TF32 stays off", "core/determinism.py", "matmul.allow_tf32, cudnn.allow_tf32 = before", "pass"),
    Mutant("quick is called AutoAttack", "evaluation/score.py", 'if version == "standard" else', 'if version else'),
    Mutant("a chain that is no number is saved", GUARDS, "*trainer.optimizer.deployed(), *trainer.model.parameters()", "*trainer.optimizer.deployed()"),
    Mutant("a stop that comes twice at once kills", "core/worker_pool.py", "_REPEAT_WINDOW_S = 1.0", "_REPEAT_WINDOW_S = 0.0"),
    Mutant("what is timed beforehand waits for others", "training/cost.py", ', "sync_bn": False}', "}"),
    Mutant("one process goes on without compiling", SESSION, "if distributed.world_size() > 1:  # the", "if False:  # the"),
    Mutant("what is compiled is evaluated", SESSION, "                yield self.model\n", "                yield self.trained\n"),
    Mutant("exported weights lie as on the GPU", "components/checkpoints.py", "memory_format=torch.contiguous_format", "memory_format=torch.preserve_format"),
    Mutant("a log that ends in the middle of a number is taken", LOGS, 'if not rows or not text.endswith("\\n"):', "if not rows:"),
    Mutant("a log without one of its epochs is taken", LOGS, 'if row["epoch"] != number - 2:', "if False:"),
    Mutant("the best epoch is the first that was best", LOGS, 'if row["best"]][-1]', 'if row["best"]][0]'),
    Mutant("time is that of one epoch", CURVES, 'accumulate(row["seconds"] for row in rows)', '[row["seconds"] for row in rows]'),
    Mutant("epochs are counted from zero", CURVES, '[row["epoch"] + 1 for row in rows]', '[row["epoch"] for row in rows]'),
    Mutant("curves are drawn after every epoch", REPORTS, "time.monotonic() - self.drawn_at > DRAWN_EVERY_S", "True"),
    Mutant("the last epochs are not drawn", REPORTS, "len(rows) == self.epochs or ", ""),
    Mutant("a picture that fails ends the run", REPORTS, "except Exception as error:", "except OSError as error:"),
    Mutant("points of a process before are shown twice", SCALARS, ", purge_step=0)", ")"),
    Mutant("points are repeated every epoch", SCALARS, "[self.written :]", ""),
    Mutant("the gap has the wrong sign", SUMMARIES, 'score["pgd20"] - score["last"]["pgd20"]', 'score["last"]["pgd20"] - score["pgd20"]'),
    Mutant("a damaged run ends the list", SUMMARIES, "except (UserError, OSError) as error:", "except OSError as error:"),
    Mutant("a run in use is not seen", SUMMARIES, "if run.is_in_use:", "if False:"),
    Mutant("a run that crashed is stopped", SUMMARIES, "    if run.crash is not None:\n        return", "    if False:\n        return"),
    Mutant("a run that crashed before its recipe was written is damaged", SUMMARIES, "if run.crash is not None and not", "if False and not"),
    Mutant("a run that holds nothing but a crash is not listed", SUMMARIES, " or Run(path).crash is not None", ""),
    Mutant("a run that was killed is crashed", CRASHES, "None if is_empty else", "None if False else"),
    Mutant("a signal has another's name", CRASHES, '"Bus error": "SIGBUS"', '"Bus error": "SIGSEGV"'),
    Mutant("a trace with a new text breaks the list", CRASHES, "_SIGNAL_NAMES.get(words, _UNKNOWN_SIGNAL)", "_SIGNAL_NAMES[words]"),
    Mutant("a machine without the run's folder may not train", CRASHES, "if not path.parent.is_dir():", "if False:"),
    Mutant("a crash leaves no trace", CRASHES, "        faulthandler.enable(file)\n", ""),
    Mutant("a run that is taken up again stays crashed", RUN_FOLDER, "            self.crash_file.unlink(missing_ok=True)\n            yield\n", "            yield\n"),
    Mutant("the trace of another process is removed", RUN_FOLDER, "            if self.crash is None:  # the file is empty\n", "            if True:\n"),
    Mutant("a run that ended well leaves an empty trace", RUN_FOLDER, "            if self.crash is None:  # the file is empty\n", "            if False:\n"),
    Mutant("a crash takes the place of its trace", RUN_FOLDER, "        if self.crash is None:\n            files", "        if True:\n            files"),
    Mutant("the deviation is the population's", COMPARISON, '"std": stdev(values)', '"std": __import__("statistics").pstdev(values)'),
    Mutant("the robust overfitting gap is reversed", COMPARISON, "pgd20 - last)", "last - pgd20)"),
    Mutant("Holm's correction is Bonferroni's", "core/statistics.py", "(len(p) - tested) * p", "len(p) * p"),
    Mutant("a larger p may become the smaller one", "core/statistics.py", "max(highest, min(1.0,", "max(0.0, min(1.0,"),
    Mutant("p is not corrected", "core/statistics.py", 'each["p_holm"] = p', 'each["p_holm"] = each["p"]'),
    Mutant("other seeds are paired", "core/statistics.py", "[second[seed] for seed in seeds])", "[second[seed] for seed in reversed(seeds)])"),
    Mutant("the difference has the wrong sign", "core/statistics.py", "first[seed] - second[seed]", "second[seed] - first[seed]"),
    Mutant("differences that do not vary are certain", "core/statistics.py", "if stdev(differences) < 1e-9:", "if stdev(differences) < -1:"),
    Mutant("the highest mean is the best, whatever the test says", COMPARISON, '["p_holm"] < SIGNIFICANT', '["p_holm"] < 2'),
    Mutant("protocols are mixed", COMPARISON, "setdefault(key, [])", "setdefault((), [])"),
    Mutant("a run in which someone works is started", WORKERS, "            if job.run.is_in_use:\n", "            if False:\n"),
    Mutant("what was written before is lost", ATTEMPTS, 'open("ab")', 'open("wb")'),
    Mutant("the user's number of threads is overruled", ATTEMPTS, "environment | os.environ", "os.environ | environment"),
    Mutant("a run that another process took is a failure", WORKERS, "elif job.run.is_in_use:", "elif False:"),
    Mutant("what another program did is done again", WORKERS, "            if job.is_done():\n", "            if False:\n"),
    Mutant("refusals are crashes", WORKERS, "process.exit_reason, code == USER_ERROR", "process.exit_reason, False"),
    Mutant("after a crash the next run of the network is started", WORKERS, "if job.network_key in self.crashed and", "if False and"),
    Mutant("after a crash a run that is done has failed", WORKERS, "in self.crashed and not job.is_done():", "in self.crashed:"),
    Mutant("unknown networks are one network", WORKERS, "        if job.network_key:\n", "        if True:\n"),
    Mutant("a crash is not recorded in the run's folder", WORKERS, "            job.run.record_crash(signal_name)\n", "            pass\n"),
    Mutant("a crash that cannot be recorded ends the queue", WORKERS, "with suppress(OSError):", "with suppress(KeyError):"),
    Mutant("a process that was killed has crashed", ATTEMPTS, "return crash_signal(self.process.returncode)", 'return crash_signal(self.process.returncode) or ("SIGABRT" if self.process.returncode < 0 else None)'),
    Mutant("each seed is another network", SWEEP, 'short_hash([data, self.sections["model"]])', 'short_hash([data, self.sections["model"], self.seed])'),
    Mutant("networks of other widths are one", SWEEP, 'short_hash([data, self.sections["model"]])', "short_hash([data])"),
    Mutant("networks for images of other shapes are one", SWEEP, 'short_hash([data, self.sections["model"]])', 'short_hash([self.sections["model"]])'),
    Mutant("recipes are checked one by one", SWEEP, "        _check(ahead)\n", ""),
    Mutant("finished runs are started", SWEEP, "return finished and", "return False and"),
    Mutant("one refusal hides a crash", SWEEP, "all(failure.is_user_error", "any(failure.is_user_error"),
    Mutant("a resumed run takes any images", SESSION, "if there and here and there != here:", "if False:"),
    Mutant("any minibatch is taken for the next one", STREAMING, "order is self._order and row == self._next", "order is self._order"),
    Mutant("a loader starts at the epoch's first minibatch", STREAMING, "order[row:])", "order)"),
    Mutant("a loader draws from training's random numbers", STREAMING, "generator=torch.Generator(),", ""),
    Mutant("a damaged image is told with a worker's traceback", STREAMING, "return refused", "raise refused"),
    Mutant("workers die of the signals that ask training to stop", STREAMING, "worker_init_fn=_ignore_signals,", ""),
    Mutant("workers that nobody ends stay for ever", STREAMING, "lambda *_: signal.alarm(_STOP_TIMEOUT_S)", "signal.SIG_IGN"),
    Mutant("a lone minibatch starts workers", STREAMING, "if not follows or isinstance(images, Images)", "if isinstance(images, Images)"),
    Mutant("files are known again by their names alone", IMAGES, "os.stat(self._path(name)).st_size", "0"),
    Mutant("what is decoded may be of any size", IMAGES, "            self._check_size(path, colours)\n", ""),
    Mutant("channels are last", IMAGES, "np.asarray(colours).transpose(2, 0, 1)", "np.asarray(colours).reshape(x[i].shape)"),
    Mutant("the attack helps the model", LINEAR, "- eps * _column(y) * _direction", "+ eps * _column(y) * _direction"),
    Mutant("the Hessian forgets that the attack turns", LINEAR, 'return curved + s * eps * _jacobian_of_direction(theta) if norm == "L2" and eps else curved', "return curved"),
    Mutant("kinks have derivatives", LINEAR, "if _check_ball(eps, norm) > 0 and kinks.any():", "if False:"),
    Mutant("a constant of the loss is too small", LINEAR, "surest + radius * largest / 4)", "surest)"),
    Mutant("PGD leaves the ball", CONCAVE, "            x_adv *= self.eps / np.maximum(np.linalg.norm(x_adv, axis=-1, keepdims=True), self.eps)\n", ""),
    Mutant("the bordered Hessian has no border", CONCAVE, "H[..., 0, 1:] = H[..., 1:, 0] = -delta", "H[..., 0, 0] = 1"),
    Mutant("the bordered Hessian is said to be farther from singular", CONCAVE, "** 0.5 - high) / 2))", "** 0.5 - high)))"),
    Mutant("the covariance is around 0", SMOOTHED, "second.reshape(-1, d, d) - first[:, :, None] * first[:, None, :]", "second.reshape(-1, d, d)"),
    Mutant("the covariance is not scaled by gamma twice", SMOOTHED, "- self.gamma**2 * covariance", "- self.gamma * covariance"),
    Mutant("the integrals end too early", SMOOTHED, "max_abs_theta + 8 * deviation", "max_abs_theta + 3 * deviation"),
    Mutant("the smoothed absolute value is less curved", SMOOTHED, " - 2  # of a - b", " - 2.1"),
    Mutant("what is no number holds", ROWS, "return self.margin >= 0", "return not self.margin < 0"),
    Mutant("what shrinks breaks a bound", ROWS, "self.measured[-1] > self.bound and all(a < b for a, b in pairwise(self.measured))", "self.measured[-1] > self.bound"),
    Mutant("no pair is close", "analysis/theory/numeric.py", "np.arange(count) % 2 == 0", "np.arange(count) < 0"),
    Mutant("the second-order step is shortened where it should be lengthened", "analysis/theory/smoothing_statements.py", "/ (1 - gamma * variance)", "* (1 - gamma * variance)"),
    Mutant("a statement that is false goes unsaid", "theory.py", "    if faults:\n", "    if False:\n"),
    Mutant("other workers are another run", SECTIONS, '("stream", "workers")', '("stream",)'),
    Mutant("attacks start elsewhere each time", LOSSES, "                torch.manual_seed(self.seed + number)\n", ""),
    Mutant("attacks weigh batches, not images", LOSSES, '/ len(self.y)', '/ len(self.y[batch])'),
    Mutant("the Hessian product forgets all batches but the last", LOSSES, "torch._foreach_add_(self.unflatten(total), list(tensors))", "torch._foreach_copy_(self.unflatten(total), list(tensors))"),
    Mutant("the top eigenvalue may be the lowest", CURVATURE, "if dominant.value >= 0:", "if True:"),
    Mutant("the shift is not taken back", CURVATURE, "Eigenvalue(shifted.value - shift,", "Eigenvalue(shifted.value,"),
    Mutant("the trace is of signs 0 and 1", CURVATURE, "generator=generator) * 2 - 1)", "generator=generator))"),
    Mutant("the gradient is probed at held attacks", PROBES, "change = loss.gradient(moved) - g", "change = loss.gradient(x_adv) - g"),
    Mutant("a cube's diameter is its edge", PROBES, "return 2 * loss.threat.eps * dimensions**0.5", "return 2 * loss.threat.eps"),
    Mutant("probes go up the gradient", PROBES, '("descent", -g / g.norm())', '("descent", g / g.norm())'),
    Mutant("sharpness leaves its ball", SHARPNESS, "min(1.0, r / float(v.norm()))", "1.0"),
    Mutant("sharpness forgets the loss below it", SHARPNESS, "scale = 1 + here", "scale = 1.0"),
    Mutant("ratios are arithmetic", "core/statistics.py", "[math.log(one / other) for", "[one / other for"),
    Mutant("intervals are of single seeds", "core/statistics.py", "* stdev(values) / math.sqrt(n)", "* stdev(values)"),
    Mutant("other settings are the same measurement", RECORDS, '"threat", "settings")', '"settings")'),
    Mutant("the first epoch kept is the first by its letters", SPECIMENS, 'key=lambda path: int(path.stem.partition("-")[2])', "key=lambda path: path.stem"),
    Mutant("validation images are studied as training images", SPECIMENS, '"validation": 0, "split_seed": 0} | given', '"validation": 0, "split_seed": 0}'),
    Mutant("layers are normalised, not filters", DIRECTIONS, "tensor.flatten(1).norm(dim=1)", "tensor.norm().expand(len(tensor))"),
    Mutant("a direction's own lengths stay in it", DIRECTIONS, "_filter_norms(w) / _filter_norms(d)", "_filter_norms(w)"),
    Mutant("biases and BatchNorm are moved too", DIRECTIONS, "return torch.zeros_like(w)", "return d"),
    Mutant("each network has a draw of its own", DIRECTIONS, "derive_seed(seed, number)", "derive_seed(seed, number) + int(1e6 * float(weights[0].sum()))"),
    Mutant("attacks are those of the first point everywhere", GRIDS, "x_adv = loss.adversarial_examples()", 'x_adv = loss.__dict__.setdefault("first", loss.adversarial_examples())'),
    Mutant("test images are training images", GRIDS, "(chosen.train, chosen.test)", "(chosen.train, chosen.train)"),
    Mutant("a map's axes are one direction", GRIDS, "for number in meta.directions\n", "for number in meta.directions[:1] * len(meta.directions)\n"),
    Mutant("the first network stands for all", GRIDS, "if number != self._number:", "if self._number < 0:"),
    Mutant("nothing is saved before the end", GRIDS, "if time.monotonic() - saved_at > _SAVE_S:", "if False:"),
    Mutant("what is kept is computed again", GRIDS, "            landscape = read_landscape(part.path)\n", "            landscape = LossLandscape(part.meta)\n"),
    Mutant("other weights find this one's landscape", SURFACES, '_NAME_FIELDS = ("run",', '_NAME_FIELDS = ("weights_sha256", "run",'),
    Mutant("the middle of an axis is not the checkpoint", SURFACES, "np.arange(-half, half + 1) / half", "(np.arange(-half, half + 1) + 0.01) / half"),
    Mutant("one point is a landscape", SLICES, "self.points < 3 or ", "self.points < 1 or "),
    Mutant("training images come class by class", SLICES, "trained_model.train[order[: settings.n]]", "trained_model.train[: settings.n]"),
    Mutant("directions count as runs", BANDS, "[np.mean([s.values[name] for s in run.values()], axis=0) for run in runs.values()]", "[s.values[name] for run in runs.values() for s in run.values()]"),
    Mutant("the spread is the population's", BANDS, "axis=0, ddof=1", "axis=0"),
    Mutant("the gap is test minus training", BANDS, 'centre["train_robust"] - centre["test_robust"]', 'centre["test_robust"] - centre["train_robust"]'),
    Mutant("other losses stand on one axis", BANDS, "            if mine != its:\n", "            if False:\n"),
    Mutant("best and last have scales of their own", DRAWN, 'named["last"].sharey(named["best"])', "pass"),
    Mutant("each map has levels of its own", DRAWN, "z, levels, norm=LogNorm(), cmap", "z, 9, norm=LogNorm(), cmap"),
    Mutant("a crew finishes what nobody waits for", CREWS, "            process.kill()\n", "            pass\n"),
    Mutant("a crew hears Ctrl-C", CREWS, "with shield_children():", "if True:"),
    Mutant("a crew outlives a parent that was killed", CREWS, "    os._exit(1)\n", "    pass\n"),
    Mutant("a death in a crew is a traceback", CREWS, "except BrokenProcessPool:", "except ZeroDivisionError:"),
    Mutant("of two packages the first one is taken", PLUGINS, "if len(packages) < 2:", "if True:"),
    Mutant("a package's import fails with a traceback", PLUGINS, "except (Exception, SystemExit) as error:", "except ImportError as error:"),
    Mutant("recipes are found by importing their package", PLUGINS, "spec = find_spec(top)", "spec = __import__(top).__spec__"),
    Mutant("a package takes the place of a method of ours", REGISTRY, "if name not in _builtin_names(kind):\n        return plugins", 'if f"{kind}.{name}" in plugins.plugin_methods():\n        return plugins'),
    Mutant("a method of ours is said to be a package's", REGISTRY, "None if offers is None or name in _builtin_names(kind) else", "None if offers is None else"),
    Mutant("a package that is gone is not missed", REGISTRY, "        if name not in component_names(kind):\n            raise UserError(\n", "        if False:\n            raise UserError(\n"),
    Mutant("a package's cell changes what a name of ours means", COOKBOOK, "known.issuperset(split_method(path.stem)) == named_by_us", "(path.stem in ours) == named_by_us"),
    Mutant("a package's broken file breaks the list of methods", COOKBOOK, "return not file.packages or bool(", "return True or bool("),
    Mutant("two packages' recipes of one name are both taken", COOKBOOK, "if name in self.files and (conflict", "if False and (conflict"),
    Mutant("a package's own recipe counts as changed", COOKBOOK, "in _package_files(dataset, named_by_us=False):", "in [] if shipped_only else _package_files(dataset, named_by_us=False):"),
    Mutant("a package's data may call themselves official", DECLARATION, "else replace(source, official=False)", "else source"),
    Mutant("augmentations come from nowhere", DECLARATION, '*(("augmentation", name) for name, _ in self.data.augmentations)', ""),
    Mutant("every law holds", SUBJECTS, "if not holds:", "if False:"),
    Mutant("a saved optimizer is asked after no step", OPTIMIZER_LAWS, "_STEPS = (0, 1, 3, 7, 19, 20, 21)", "_STEPS = (0,)"),
    Mutant("a closure takes no gradients", CHAIN, "with torch.enable_grad():\n                loss", "with torch.no_grad():\n                loss"),
    Mutant("a copied optimizer has no generator", CHAIN, "generator: torch.Generator | None = None\n", "generator: torch.Generator | None\n"),
    Mutant("a group that is added has no mode", SGD, 'self.defaults["train_mode"] = True', "pass"),
    Mutant("hooks run twice a step", SGD, "    def train(self)", "    def step(self, closure=None):\n        return super().step(closure)\n\n    def train(self)"),
    Mutant("a published model's weights are not loaded", PRETRAINED, "model.net.load_state_dict(published.load().state_dict())", "published.load()"),
    Mutant("a web page in the place of a published model's weights is a traceback", PRETRAINED, "(pickle.UnpicklingError, EOFError)", "EOFError"),
    Mutant("the doctor does not try an AutoAttack", "doctor.py", 'importlib.import_module("autoattack")', "None"),
    Mutant("the doctor repairs RobustBench where AutoAttack is to blame", "doctor.py", "_autoattack().fix or robustbench.REPAIR", "robustbench.REPAIR"),
    Mutant("a published model is looked for in its data set's other table", PRETRAINED, 'options["threat"], Path', '"L2", Path'),
    Mutant("a published model is normalised twice", NETWORKS, " and zoo_model(net, classes) is None", ""),
    Mutant("an ensemble is one network", BRIDGE, 'if not isinstance(known[name]["gdrive_id"], str)', "if False"),
    Mutant("RobustBench's benchmark is given images that it cannot attack", ZOO, "(test.x.float() / 255).contiguous()", "test.x.float() / 255"),
    Mutant("RobustBench's benchmark is given pixels from 0 to 255", ZOO, "(test.x.float() / 255).contiguous()", "test.x.float().contiguous()"),
    Mutant("RobustBench's benchmark is given all points", ZOO, "test[:n_examples]", "test[:]"),
    Mutant("an entry takes the place of a published model", ZOO, "if entry.name in table and not isinstance", "if False and not isinstance"),
    Mutant("new data sets are registered unasked", ZOO, "if new_datasets or entry", "if True or entry"),
    Mutant("a board that RobustBench lacks is no board", BRIDGE, ".setdefault(ThreatModel(threat), {})", "[ThreatModel(threat)]"),
    Mutant("a new data set has no test points", BRIDGE, "    data._clean_dataset_loaders[member] = loader\n", ""),
    Mutant("the listing of RobustBench's data sets changes", BRIDGE, "        BenchmarkDataset._value2member_map_[name] = member", "        BenchmarkDataset._member_map_[name] = member; BenchmarkDataset._member_names_.append(name); BenchmarkDataset._value2member_map_[name] = member"),
    Mutant("RobustBench's HTML has no template", STANDINS, "ChoiceLoader([PackageLoader(*place), ours])", "PackageLoader(*place)"),
    Mutant("the stand-in pkg_resources stays", STANDINS, 'del sys.modules["pkg_resources"]', "pass"),
    Mutant("a checkpoint is entered as a published model", OUTSIDERS, "if name in {row", 'if name + "!" in {row'),
    Mutant("a model of other data saw no more data", CREDITS, 'score["board"] != robustbench.zoo_dataset(model["classes"]) or ', ""),
    Mutant("a published model's extra data are nobody's", CREDITS, 'get("extra_data", True)', 'get("extra", False)'),
    Mutant("pixels are rounded in silence", "data/images.py", "_GREY_LEVEL_TOLERANCE = 1e-3", "_GREY_LEVEL_TOLERANCE = 1.0"),
    Mutant("a larger ball is walked in old steps", "leaderboard/verification.py", 'own["step_size"] = changes["eps"] / 4', "pass"),
    Mutant("a model comes back in eval mode", MEASUREMENT, "with preserve_modes(model), tempfile", "with tempfile"),
    Mutant("what was measured is measured again", "leaderboard/verification.py", "        return Score.of(score)\n", "        pass\n"),
    Mutant("the seed is forgotten", API, '{"train.seed": seed}', "{}"),
    Mutant("threads stay as a run chose them", API, "torch.set_num_threads(threads)", "pass"),
    Mutant("silence is not kept", API, "with show_output(verbose)", "with show_output(True)"),
    Mutant("a look at a run changes its recipe", PIPELINE, "options, write_recipe=False", "options, write_recipe=True"),
    Mutant("a crash of a run leaves no trace", PIPELINE, ", crashes.record_crash_trace(run.crash_file):", ":"),
    Mutant("a crash of the timed steps leaves no trace", PIPELINE, "        if options.until == \"plan\":\n            if announces:\n", "        if True:\n            if announces:\n"),
    Mutant("training takes any evaluation for its own", PIPELINE, 'run.is_ready if options.until == "training" else run.is_finished', "run.is_finished"),
    Mutant("an entry's recipe tells another protocol", SUBMISSION, ' | {"evaluate": score["asked"]}', ""),
    Mutant("a key is told as if it were another method's", KEYS, "_documented_options(kind, other[1])[each] if other", "(unit, text) if other"),
    Mutant("the limits of an optional key are lost", KEYS, "return [*words, *_range_texts(inner[1:])], choices", "return words, choices"),
    Mutant("a default is written as Python does", KEYS, "        return str(value).lower()", "        return str(value)"),
    Mutant("a broken package hides all keys", KEYS, "except UserError as error:", "except KeyError as error:"),
    Mutant("other packages' methods get into our page", REFERENCE, "if group.package is not None:", "if False:"),
    Mutant("a key is shown of methods that were not asked for", REFERENCE, 'topic in (f"{section}.{key}", f"{each.title}.{key}")', "True"),
]  # fmt: skip


def killer(mutant: Mutant) -> str | None:
    """The test that fails on `mutant`; None if it survives."""
    with tempfile.TemporaryDirectory() as scratch:
        for part in ("rb_smooth", "tests", "recipes", "docs", "leaderboard/published"):
            shutil.copytree(ROOT / part, Path(scratch, part), ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "CHANGELOG.md"):
            shutil.copy(ROOT / name, scratch)
        file = Path(scratch, "rb_smooth", mutant.file)
        file.write_text(file.read_text().replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-x", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
        command += ["-m", "not manual"]  # the slow ones, too
        ran = subprocess.run(
            [*command, *(f"tests/{name}" for name in TESTS[mutant.file])],
            cwd=scratch,
            env=os.environ | {"PYTHONPATH": scratch, "OMP_NUM_THREADS": "1", "COLUMNS": "1000"},
            capture_output=True,
            text=True,
        )
    if ran.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) tests/(\S+?)(?:\[| |$)", ran.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{mutant.bug}: no test ran\n{ran.stdout}{ran.stderr}")
    return found[1]


def table(killers: list[str | None]) -> str:
    dead = sum(name is not None for name in killers)
    rows = [f"| {m.bug} | `{m.file}` | {f'`{k}`' if k else '**survives**'} |" for m, k in zip(MUTANTS, killers)]
    head = "# Planted bugs and the tests that find them\n\nMade by `python tests/mutants.py --write docs/mutants.md`."
    return "\n".join(
        [
            f"{head} {dead} of {len(MUTANTS)} die.\n",
            "| bug | where | first test that fails |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="put the table here")
    options = parser.parse_args()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        killers = list(pool.map(killer, MUTANTS))
    print(text := table(killers))
    if options.write:
        options.write.parent.mkdir(exist_ok=True)
        options.write.write_text(text)
    return int(None in killers)


if __name__ == "__main__":
    sys.exit(main())
