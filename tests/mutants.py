"""Mutation testing: known bugs, each of which must make some test fail.

    python tests/mutants.py            # all; hours
    python tests/mutants.py awp sgd    # those in files whose path contains one of these words

Each mutant is one replacement in one file of a copy of the package. The tests of that file run on the copy. The exit
code is 1 if a mutant survives, that is, if no test fails.
"""

from __future__ import annotations

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
    """tests: names of the test files to run."""

    bug: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def plant(file: str, tests: str, bugs: list[tuple[str, str, str]]) -> list[Mutant]:
    """Mutants of one file. tests: `awp methods` for test_awp.py and test_methods.py; bugs: (bug, old text, new text)."""
    names = tuple(f"test_{name}.py" for name in tests.split())
    return [Mutant(bug, file, old, new, names) for bug, old, new in bugs]


MUTANTS = [
    *plant("components/perturbations/awp.py", "awp distributed", [
        ("the weights move down the loss", "[self.gamma * of_w /", "[-self.gamma * of_w /"),
        ("the shift ignores the weights' norms", "[self.gamma * of_w /", "[self.gamma /"),
        ("the shift ignores gamma", "[self.gamma * of_w /", "[of_w /"),
        ("BatchNorm and biases are perturbed too", "p.requires_grad and p.ndim > 1", "p.requires_grad"),
        ("frozen weights are perturbed", "p.requires_grad and p.ndim > 1", "p.ndim > 1"),
        ("a zero gradient divides by zero", "(of_g + 1e-20)", "of_g"),
        ("running statistics change inside AWP", "with frozen_running_stats(model), torch", "with torch"),
        ("AWP uses the gradient of this process's shard", "        distributed.all_reduce_mean(g)", "        # distributed.all_reduce_mean(g)"),
    ]),
    *plant("components/weights.py", "batchnorm awp methods", [
        ("weights are not restored", "tensor.copy_(value)", "pass"),
        ("weights are not restored after an exception", "    try:\n        yield\n    finally:\n        with torch.no_grad():", "    yield\n    if True:\n        with torch.no_grad():"),
        ("the shift is subtracted", "torch._foreach_add_(list(weights)", "torch._foreach_sub_(list(weights)"),
        ("parameters stay frozen", "parameter.requires_grad_(True)", "pass"),
    ]),
    *plant("components/optimizers/_langevin.py", "entropy_sgd methods torch_optimizer_api", [
        ("SGLD: the iterate is pushed away from w", 'inner_lr * group["gamma"])', '-inner_lr * group["gamma"])'),
        ("SGLD: the iterate is not pulled to w", 'inner_lr * group["gamma"])', "0.0)"),
        ("SGLD: the pull to w is not scaled by inner_lr", 'inner_lr * group["gamma"])', 'group["gamma"])'),
        ("SGLD: the iterate moves up the loss", "(chain, d, alpha=-inner_lr)", "(chain, d, alpha=inner_lr)"),
        ("SGLD: noise scaled by sqrt(inner_lr), not sqrt(2 inner_lr)", "(2 * inner_lr) ** 0.5", "inner_lr**0.5"),
        ("SGLD: noise ignores the generator", "normal_(generator=self.generator)", "normal_()"),
        ("the mean weighs the new iterate by beta", 'chain, 1 - group["beta"])', 'chain, group["beta"])'),
        ("the outer step moves up the loss", '(w, d, alpha=-group["lr"])', '(w, d, alpha=group["lr"])'),
        ("no weight decay in the outer step", '(d, w, alpha=_outer(group, "weight_decay"))', "(d, w, alpha=0.0)"),
        ("no weight decay in the inner steps", '(gradients, chain, alpha=group["weight_decay"])', "(gradients, chain, alpha=0.0)"),
        ("the last chunk of parameters is not updated", "    if chunk:\n        yield chunk\n", ""),
        ("chunks are updated twice", "            yield chunk\n            chunk = []\n", "            yield chunk\n"),
        ("momentum is damped", "torch._foreach_add_(buffer, d)", "torch._foreach_add_(buffer, d, alpha=0.1)"),
        ("Nesterov momentum is always used", "    if not nesterov:\n        return buffer\n", ""),
        ("inner momentum is not reset at the outer step", '            torch._foreach_zero_([s["m"] for s in states])\n', "            pass\n"),
        ("the mean is not reset at the outer step", '        torch._foreach_copy_([s["mu"] for s in states], w)\n', ""),
        ("the iterate is not reset to w at the outer step", "        torch._foreach_copy_(chain, w)\n", ""),
        ("the outer step has the inner steps' momentum", '        momentum = _outer(group, "momentum")\n', '        momentum = group["momentum"]\n'),
        ("the outer step has the inner steps' weight decay", '(d, w, alpha=_outer(group, "weight_decay"))', '(d, w, alpha=group["weight_decay"])'),
        ("inner_lr never follows the schedule", 'group["lr"] / group["base_lr"] if group["inner_schedule"] else 1.0', "1.0"),
        ("states saved before some options existed do not load", "            group.update(unset | group)\n", "            pass\n"),
        ("the time constant ignores Nesterov momentum", "(1 + momentum, momentum**2) if", "(1.0, momentum) if"),
        ("one inner step too many", 'group["k"] == group["inner_steps"]', 'group["k"] > group["inner_steps"]'),
        ("the inner step counter is not reset", '                group["k"] = 0\n', ""),
        ("eval() leaves the iterate in the parameters", "                        p.copy_(other)\n", ""),
        ("eval() replaces the parameters' storage", "                        p.copy_(other)\n", "                        p.data = other.clone()\n"),
        ("step() in eval mode raises no error", 'if not all(group["train_mode"] for group in self.param_groups)', "if False"),
        ("closures run without gradients", "with torch.enable_grad():\n                loss", "with torch.no_grad():\n                loss"),
        ("a copied optimizer has no generator", "generator: torch.Generator | None = None\n", "generator: torch.Generator | None\n"),
    ]),
    *plant("components/optimizers/entropy_sgd.py", "entropy_sgd", [
        ("EntropySGD's outer gradient has the wrong sign", '([s["w"] for s in states], [s["mu"] for s in states])', '([s["mu"] for s in states], [s["w"] for s in states])'),
    ]),
    *plant("components/optimizers/entropy_sgd2.py", "entropy_sgd2", [
        ("the variance is added, not subtracted", '(curvature, -group["gamma"])', '(curvature, group["gamma"])'),
        ("the step is multiplied by the curvature, not divided", "torch._foreach_div_(d, curvature)", "torch._foreach_mul_(d, curvature)"),
        ("the curvature has no lower bound", '    torch._foreach_clamp_min_(curvature, group["curvature_floor"])\n', "    pass\n"),
        ("the variance is taken around the new mean", "    distance = list(torch._foreach_sub(chain, mu))\n    torch._foreach_lerp_(mu, chain, 1 - beta)\n", "    torch._foreach_lerp_(mu, chain, 1 - beta)\n    distance = list(torch._foreach_sub(chain, mu))\n"),
        ("the variance is not reset at the outer step", "        torch._foreach_zero_(curvature)\n", ""),
        ("clamped weights are not counted", '["clamped"].to(below.device) + below', '["clamped"]'),
        ("the count of clamped weights is not reset", 'torch.zeros_like(group["clamped"]), 0', 'group["clamped"], group["divided"]'),
    ]),
    *plant("components/optimizers/sgd.py", "methods entropy_sgd torch_optimizer_api", [
        ("SGD always uses Nesterov momentum", "momentum=momentum, nesterov=nesterov,", "momentum=momentum, nesterov=momentum > 0,"),
    ]),
    *plant("components/torch_optimizers.py", "torch_optimizers torch_optimizer_api methods recipe_keys", [
        ("an added parameter group has no train mode", 'self.defaults["train_mode"] = True', "pass"),
        ("step hooks run twice", "    def train(self)", "    def step(self, closure=None):\n        return super().step(closure)\n\n    def train(self)"),
        ("a closure-only optimizer is accepted", "if closure is not None and closure.default is closure.empty:", "if False:"),
        ("options of no use in training are accepted", '_LEFT_OUT = ("maximize", "capturable", "differentiable")', "_LEFT_OUT = ()"),
    ]),
    *plant("components/objectives/at.py", "at methods", [
        ("AT trains on clean images", "logits = model(x_adv)", "logits = model(x)"),
        ("AT crafts in eval mode", "input_gradient_mode(model, self.bn_mode)", 'input_gradient_mode(model, "eval")'),
        ("AT ignores label smoothing", ", label_smoothing=self.label_smoothing", ""),
    ]),
    *plant("components/attacks.py", "at trades mart methods", [
        ("PGD attacks in a ball of eps / 2", "attack(model, eps=threat.eps,", "attack(model, eps=threat.eps / 2,"),
        ("PGD always attacks in Linf", 'torchattacks.PGD if threat.norm == "Linf" else _PGDL2', "torchattacks.PGD"),
        ("PGD starts at x", "random_start=True", "random_start=False"),
        ("crafting changes running statistics", "batchnorm.frozen_running_stats(model), ", ""),
        ("crafting computes parameter gradients", ", weights.no_param_grad(model)", ""),
        ("PGD fails on images that are not contiguous", "crafter.forward(x.contiguous(), y)", "crafter.forward(x, y)"),
        ("PGD from a normal start starts at x", "x_adv = x + 0.001 * torch.randn_like(x)", "x_adv = x.clone()"),
        ("PGD from a normal start leaves the L2 ball", "            shift *= (threat.eps / norm(shift)).clamp(max=1)\n", ""),
    ]),
    *plant("components/losses.py", "trades", [
        ("the arguments of the KL divergence are swapped", "F.kl_div(log_probabilities(other_logits), log_probabilities(logits)", "F.kl_div(log_probabilities(logits), log_probabilities(other_logits)"),
    ]),
    *plant("components/objectives/trades.py", "trades", [
        ("TRADES: the clean prediction is detached", "kl_divergence(clean, attacked)", "kl_divergence(clean.detach(), attacked)"),
        ("TRADES ignores beta", "natural + self.beta * kl", "natural + kl"),
        ("TRADES: cross-entropy of the adversarial examples", "F.cross_entropy(clean, y", "F.cross_entropy(attacked, y"),
        ("TRADES returns clean logits", ".mean(), attacked)", ".mean(), clean)"),
        ("TRADES: one batch of clean and adversarial images, so BatchNorm mixes them", "clean, attacked = model(x), model(x_adv)", "import torch\n\n        clean, attacked = model(torch.cat([x, x_adv])).chunk(2)"),
    ]),
    *plant("components/objectives/mart.py", "mart", [
        ("MART weighs the divergence by confidence", "unsure = 1 - clean", "unsure = clean"),
        ("MART: the weight of the divergence is detached", "unsure = 1 - clean.softmax", "unsure = 1 - clean.detach().softmax"),
        ("MART: the most likely wrong class may be the true class", "log.scatter(1, y[:, None], -torch.inf).argmax", "log.argmax"),
        ("MART's margin has the wrong sign", 'reduction="none") - all_but_rival', 'reduction="none") + all_but_rival'),
        ("MART: the arguments of the KL divergence are swapped", "kl_divergence(clean, attacked)", "kl_divergence(attacked, clean)"),
        ("MART ignores start", "self.steps, self.start)", "self.steps)"),
    ]),
    *plant("components/averaging/ema.py", "methods", [
        ("EMA: decay and 1 - decay are swapped", "deployed, 1 - tau)", "deployed, tau)"),
        ("EMA: no warm-up of the decay", "min(self.decay, (1 + t) / (10 + t))", "self.decay"),
        ("EMA: the average shares memory with the weights", "[w.detach().clone() for w in deployed]", "[w.detach() for w in deployed]"),
    ]),
    *plant("components/batchnorm.py", "batchnorm methods awp distributed", [
        ("recalibration does not reset the statistics", "            layer.reset_running_stats()\n", ""),
        ("recalibration uses a moving average", "layer.momentum = None", "layer.momentum = 0.1"),
        ("recalibration uses clean images", "objective.loss(model, x, x_adv, y)", "objective.loss(model, x, x, y)"),
        ("layers that the user froze are set to train mode", "if layer.training or not model.training", ""),
        ("running statistics are not pooled over processes", "    if distributed.world_size() > 1:\n", "    if False:\n"),
        ("pooled variances ignore the differences between means", "layer.running_var.copy_(square - mean**2)", "layer.running_var.copy_(square)"),
    ]),
    *plant("training/step.py", "awp training distributed", [
        ("the training gradient is taken at unperturbed weights", "    with perturbation(network, lambda: objective.loss(network, x, x_adv, y).loss):\n", "    with perturbation(network, lambda: objective.loss(network, x, x_adv, y).loss):\n        pass\n    if True:\n"),
        ("gradients accumulate over minibatches", "        optimizer.zero_grad(set_to_none=True)\n", ""),
        ("EMA averages the SGLD iterate, not w", "optimizer.deployed(), t)", "list(model.parameters()), t)"),
        ("the loss bypasses DistributedDataParallel", "outcome = objective.loss(model, x", "outcome = objective.loss(network, x"),
    ]),
    *plant("training/trainer.py", "training extra_images distributed", [
        ("a new stage starts from the SGLD iterate, not from w", "                if epoch > 0:\n                    self.optimizer.eval()\n", ""),
        ("the SGLD iterate is evaluated, not w", "        deployed = self.optimizer.deployed()\n", "        self.optimizer.train()\n        deployed = [p.detach().clone() for p in self.model.parameters()]\n"),
        ("the SGLD noise is the same in every minibatch", "derive_seed(self.seed, NOISE, self.t)", "derive_seed(self.seed, NOISE, 0)"),
        ("processes draw different noise", "derive_seed(self.seed, NOISE, self.t)", "derive_seed(self.seed, NOISE, self.t) ^ distributed.rank()"),
        ("every process resumes with the statistics of process 0", "by_rank[distributed.rank() % len(by_rank)]", "by_rank[0]"),
        ("one of several processes trains without compiling", "if distributed.world_size() > 1:  # the", "if False:  # the"),
        ("the compiled model is evaluated", "                yield self.model\n", "                yield self.trained\n"),
        ("a run resumes with different images", "if there and here and there != here:", "if False:"),
    ]),
    *plant("training/model_setup.py", "model_setup training pretrained", [
        ("inputs are always standardised", "recipe.data.standardise and zoo_model", "zoo_model"),
        ("a published model's weights are not loaded", "model.net.load_state_dict(published.load().state_dict())", "published.load()"),
        ("a web page instead of weights is a traceback", "(pickle.UnpicklingError, EOFError)", "EOFError"),
        ("a published model is looked up under the wrong norm", 'options["threat"], Path', '"L2", Path'),
        ("a published model is normalised twice", " and zoo_model(net, classes) is None", ""),
    ]),
    *plant("training/run_folder/resume.py", "resume", [
        ("the previous state file is deleted", "        os.replace(resume, previous)\n", "        resume.unlink()\n"),
        ("the old state is overwritten before the new one is complete", "newest, resume, previous = (folder", "resume, newest, previous = (folder"),
        ("states of newer formats are loaded", "> FORMAT:", "> FORMAT + 1000:"),
    ]),
    *plant("core/files.py", "resume", [
        ("checksums of state files are not verified", "if zipfile.is_zipfile(regular_file(path)):", "if False:"),
    ]),
    *plant("training/selection.py", "selection", [
        ("on a tie the later epoch is the best", "return correct.index(max(correct))", "return len(correct) - 1 - correct[::-1].index(max(correct))"),
        ("a mean straddles a drop of the learning rate", "ends = {*starts, epochs}", "ends = {0, epochs}"),
        ("an epoch is chosen before its neighbour is known", "if epoch + 1 < len(correct) or epoch + 1 in ends", ""),
    ]),
    *plant("training/loop.py", "training distributed", [
        ("a stop signal reaches one process only", "distributed.all_reduce_any(bool(stop), time.monotonic() - saved_at > saved_every_s)", "bool(stop), False"),
        ("the log has the loss of one process", "distributed.all_reduce_sum(trainer.sums)", "trainer.sums"),
    ]),
    *plant("core/distributed.py", "distributed", [
        ("shards miss images", "tensor[rank() :: world_size()]", "tensor[rank() : len(tensor) // 2 : world_size()]"),
        ("all_reduce_mean returns the sum", "    torch._foreach_div_(list(tensors), world_size())\n", ""),
        ("gather returns images in the wrong order", "torch.stack(parts, dim=1).flatten(0, 1)", "torch.cat(parts)"),
    ]),
    *plant("training/measurement.py", "measurement training", [
        ("training accuracy is of the first images, in a folder of one class", "torch.arange(count) * len(images) // count", "torch.arange(count)"),
        ("training accuracy is measured after every epoch", "(epoch + 1) % EVERY == 0 or epoch + 1 == epochs", "True"),
        ("FGSM is PGD-20", ", steps=1)", ")"),
        ("the estimate forgets the average's second validation", "epochs + complete * averages", "epochs"),
    ]),
    *plant("training/diagnostics.py", "diagnostics distributed", [
        ("weights that differ between processes are not detected", "if others := distributed.ranks_that_differ(_checksums(trainer)):", "if others := []:"),
        ("a NaN loss in another process is not detected", "int(distributed.all_reduce_min(trainer.first_nonfinite_step))", "int(trainer.first_nonfinite_step)"),
        ("different images in a process are not detected", "distributed.ranks_that_differ(trainer.input_hashes)", "[]"),
        ("a stage's minibatches are those of one epoch", "len(span) * batches", "batches"),
        ("the time constant is of the rate before drops", '["lr"] * factor, len', '["lr"], len'),
        ("a NaN in the SGLD iterate is not detected", "*trainer.optimizer.deployed(), *trainer.model.parameters()", "*trainer.optimizer.deployed()"),
    ]),
    *plant("evaluation/checks/__init__.py", "trust", [
        ("checks change the model's weights and buffers", "weights.preserve(tensors),\n        ", ""),
    ]),
    *plant("evaluation/checks/gradients.py", "trust", [
        ("gradients are checked at the test points only", "torch.cat([context.x, within])", "torch.cat([context.x, context.x])"),
    ]),
    *plant("evaluation/checks/attack.py", "trust", [
        ("one point is taken as evidence", "max(_FEW, limit * points)", "limit * points"),
    ]),
    *plant("evaluation/checks/forward.py", "trust", [
        ("averaging over an image and its mirror image fails the check", "_PASSES = 2.5", "_PASSES = 1.5"),
    ]),
    *plant("evaluation/per_example.py", "per_example", [
        ("invalid adversarial examples are stored", "wrong = outside | (", "wrong = outside & ("),
    ]),
    *plant("evaluation/evaluator.py", "leaderboard", [
        ("per-example results are computed in train mode", "    model.eval()\n", ""),
    ]),
    *plant("leaderboard/submission.py", "api leaderboard", [
        ("a replaced entry is not archived", "            _archive_entry(entry)\n", ""),
        ("an unreliable entry is not marked", '"unreliable": bool(doubts)', '"unreliable": False'),
        ("an entry's recipe has another evaluation section", ' | {"evaluate": score["asked"]}', ""),
    ]),
    *plant("core/cli.py", "cli", [
        ("unknown options are ignored", "        if unread:", "        if False:"),
        ("options may be abbreviated", "allow_abbrev=False", "allow_abbrev=True"),
        ("-q prints progress messages", "Verbosity.QUIET", "Verbosity.NORMAL"),
        ("-v shows no traceback", "        traceback.print_exc()", "        pass"),
        ("the script's help names python -m", 'text.replace(_MODULE, f"{SCRIPT} ")', "text"),
    ]),
    *plant("core/console.py", "cli", [
        ("--json prints the table on stdout too", "console.stderr = True", "console.stderr = False"),
    ]),
    *plant("leaderboard/entries.py", "leaderboard recipe_program", [
        ("weights are not compared with the entry's SHA-256", 'files.sha256(self.weights) == self.own.get("weights_sha256")', "True"),
    ]),
    *plant("leaderboard/verification.py", "leaderboard api", [
        ("verify accepts an entry without points", "and not self.points", ""),
        ("a changed eps keeps the old step size", 'own["step_size"] = changes["eps"] / 4', "pass"),
        ("a finished measurement is repeated", "        return Score.of(score)\n", "        pass\n"),
    ]),
    *plant("evaluation/radii.py", "leaderboard", [
        ("radii of L2 and Linf are equal", "L2_PER_LINF = 0.5 / (8 / 255)", "L2_PER_LINF = 1.0"),
    ]),
    *plant("evaluation/accuracy.py", "distributed evaluation", [
        ("accuracy counts this process's shard only", "distributed.all_reduce_sum(flags)", "flags"),
        ("random starts depend on the number of processes", "torch.manual_seed(seed + number)", "torch.manual_seed(seed + number + distributed.rank())"),
    ]),
    *plant("evaluation/autoattack.py", "autoattack distributed", [
        ("results of other processes are lost", "    for others in distributed.all_gather_object(results):\n        results |= others\n", "    results |= {batch.batch_index: BatchResult(torch.ones(len(batch.points), dtype=torch.bool), torch.zeros(len(batch.points)), 0.0, [], torch.zeros(0)) for batch in batches if batch.batch_index not in results}\n"),
        ("broken points are attacked again", "survivors = robust.nonzero().flatten()", "survivors = torch.arange(len(y))"),
        ("results are written to the wrong points", "robust[batch.points], margin", "robust[: len(batch.points)], margin"),
        ("quick runs all four attacks", '"quick": robustbench.ATTACKS[:2]', '"quick": robustbench.ATTACKS'),
        ("standard skips points that PGD-20 broke", 'initially_robust is not None and version == "standard"', "False"),
        ("cached results are not read", "None if cache is None else cache.load(batch)", "None"),
        ("results are not cached", "                cache.save(batch, result)\n", "                pass\n"),
        ("the wrong attack is recorded for broken points", "broken_by[broken] = place", "broken_by[batch.points] = place"),
    ]),
    *plant("evaluation/attack_workers.py", "autoattack", [
        ("attacks run in train mode", "            self.model.eval()\n", ""),
        ("attacks compute gradients of weights", "            weights.no_param_grad(self.model),\n", ""),
        ("attacks compute in TF32", "            full_float32(),\n", ""),
        ("the margin compares with the highest logit, the true class included", "logits.scatter(1, y[:, None], -torch.inf).amax(1)", "logits.amax(1)"),
        ("forward passes of workers are not counted", "            on_progress(now - reported)\n", ""),
        ("workers use more threads than allowed", "min(threads, torch.get_num_threads())", "threads"),
    ]),
    *plant("evaluation/attack_cache.py", "autoattack", [
        ("the cache key ignores the evaluation", "json.dumps(cache_key, sort_keys=True)", "json.dumps({})"),
        ("cached results are used for other points", 'saved["points"] == batch.points.tolist() and', ""),
    ]),
    *plant("core/determinism.py", "autoattack", [
        ("TF32 settings are not restored", "matmul.allow_tf32, cudnn.allow_tf32 = before", "pass"),
    ]),
    *plant("evaluation/score.py", "leaderboard recipe_program", [
        ("quick is labelled AutoAttack", 'if version == "standard" else', "if version else"),
    ]),
    *plant("core/worker_pool.py", "training worker_pool", [
        ("a repeated Ctrl-C within a second kills the run", "_REPEAT_WINDOW_S = 1.0", "_REPEAT_WINDOW_S = 0.0"),
        ("abandoned tasks run to their end", "            process.kill()\n", "            pass\n"),
        ("workers receive Ctrl-C", "with shield_children():", "if True:"),
        ("workers outlive a killed parent", "    os._exit(1)\n", "    pass\n"),
        ("the death of a worker is a traceback", "except BrokenProcessPool:", "except ZeroDivisionError:"),
    ]),
    *plant("training/cost.py", "model_setup", [
        ("the timed steps synchronise with other processes", ', "sync_bn": False}', "}"),
    ]),
    *plant("components/checkpoints.py", "model_setup", [
        ("exported weights keep channels_last", "memory_format=torch.contiguous_format", "memory_format=torch.preserve_format"),
    ]),
    *plant("training/run_folder/log.py", "curves", [
        ("a truncated log is accepted", 'if not rows or not text.endswith("\\n"):', "if not rows:"),
        ("a log with a missing epoch is accepted", 'if row["epoch"] != number - 2:', "if False:"),
        ("the best epoch is the first one marked", 'if row["best"]][-1]', 'if row["best"]][0]'),
    ]),
    *plant("training/run_folder/curves.py", "curves", [
        ("the time axis is not cumulative", 'accumulate(row["seconds"] for row in rows)', '[row["seconds"] for row in rows]'),
        ("curves count epochs from zero", '[row["epoch"] + 1 for row in rows]', '[row["epoch"] for row in rows]'),
    ]),
    *plant("training/run_folder/reporting.py", "curves tensorboard", [
        ("curves are redrawn after every epoch", "time.monotonic() - self.drawn_at > DRAWN_EVERY_S", "True"),
        ("the last epochs are not drawn", "len(rows) == self.epochs or ", ""),
        ("a plotting error ends the run", "except Exception as error:", "except OSError as error:"),
        ("TensorBoard shows points of an earlier process twice", ", purge_step=0)", ")"),
        ("TensorBoard points are written again every epoch", "[self.written :]", ""),
    ]),
    *plant("training/run_folder/summary.py", "runs", [
        ("the gap in the list of runs has the wrong sign", 'score["pgd20"] - score["last"]["pgd20"]', 'score["last"]["pgd20"] - score["pgd20"]'),
        ("a damaged run ends the list of runs", "except (UserError, OSError) as error:", "except OSError as error:"),
        ("a run in use is not recognised", "if run.is_in_use:", "if False:"),
        ("a crashed run is listed as stopped", "    if run.crash is not None:\n        return", "    if False:\n        return"),
        ("a run that crashed before its recipe was written is listed as damaged", "if run.crash is not None and not", "if False and not"),
        ("a folder with only a crash trace is not listed", " or Run(path).crash is not None", ""),
    ]),
    *plant("core/crashes.py", "runs", [
        ("a killed run is listed as crashed", "None if is_empty else", "None if False else"),
        ("SIGBUS is reported as SIGSEGV", '"Bus error": "SIGBUS"', '"Bus error": "SIGSEGV"'),
        ("an unknown crash message raises an error", "_SIGNAL_NAMES.get(words, _UNKNOWN_SIGNAL)", "_SIGNAL_NAMES[words]"),
        ("training fails where the run folder cannot exist", "if not path.parent.is_dir():", "if False:"),
        ("faulthandler is not enabled", "        faulthandler.enable(file)\n", ""),
    ]),
    *plant("training/run_folder/run.py", "runs", [
        ("a resumed run keeps its crash trace", "            self.crash_file.unlink(missing_ok=True)\n            yield\n", "            yield\n"),
        ("the trace of another process is removed", "            if self.crash is None:  # the file is empty\n", "            if True:\n"),
        ("a run without a crash leaves an empty trace file", "            if self.crash is None:  # the file is empty\n", "            if False:\n"),
        ("recording a crash overwrites its trace", "        if self.crash is None:\n            files", "        if True:\n            files"),
    ]),
    *plant("training/sweep/comparison.py", "comparison", [
        ("the standard deviation is the population's", '"std": stdev(values)', '"std": __import__("statistics").pstdev(values)'),
        ("the robust overfitting gap is reversed", "pgd20 - last)", "last - pgd20)"),
        ("the highest mean is bold without significance", '["p_holm"] < SIGNIFICANT', '["p_holm"] < 2'),
        ("results of different protocols are grouped", "setdefault(key, [])", "setdefault((), [])"),
    ]),
    *plant("core/statistics.py", "comparison smoothness", [
        ("Bonferroni's correction instead of Holm's", "(len(p) - tested) * p", "len(p) * p"),
        ("corrected p values are not monotone", "max(highest, min(1.0,", "max(0.0, min(1.0,"),
        ("p is not corrected", 'each["p_holm"] = p', 'each["p_holm"] = each["p"]'),
        ("different seeds are paired", "[second[seed] for seed in seeds])", "[second[seed] for seed in reversed(seeds)])"),
        ("the difference has the wrong sign", "first[seed] - second[seed]", "second[seed] - first[seed]"),
        ("constant differences are tested", "if stdev(differences) < 1e-9:", "if stdev(differences) < -1:"),
        ("ratios are averaged arithmetically", "[math.log(one / other) for", "[one / other for"),
        ("the interval is not divided by sqrt(n)", "* stdev(values) / math.sqrt(n)", "* stdev(values)"),
    ]),
    *plant("training/sweep/job_queue.py", "job_queue", [
        ("a run in use is started", "            if job.run.is_in_use:\n", "            if False:\n"),
        ("a run that another process started counts as failed", "elif job.run.is_in_use:", "elif False:"),
        ("runs finished by another program are repeated", "            if job.is_done():\n", "            if False:\n"),
        ("a user error is not recorded as one", "process.exit_reason, code == USER_ERROR", "process.exit_reason, False"),
        ("runs of the same network are started after a crash", "if job.network_key in self.crashed and", "if False and"),
        ("a finished run counts as failed after a crash", "in self.crashed and not job.is_done():", "in self.crashed:"),
        ("jobs without a network key are treated as one network", "        if job.network_key:\n", "        if True:\n"),
        ("a crash is not recorded in the run folder", "            job.run.record_crash(signal_name)\n", "            pass\n"),
        ("an error while recording a crash ends the queue", "with suppress(OSError):", "with suppress(KeyError):"),
    ]),
    *plant("training/sweep/job_process.py", "job_queue", [
        ("a job's earlier output is overwritten", 'open("ab")', 'open("wb")'),
        ("the user's OMP_NUM_THREADS is overridden", "environment | os.environ", "os.environ | environment"),
        ("a killed process counts as crashed", "return crash_signal(self.process.returncode)", 'return crash_signal(self.process.returncode) or ("SIGABRT" if self.process.returncode < 0 else None)'),
    ]),
    *plant("training/sweep/sweep.py", "sweep", [
        ("the network key depends on the seed", 'short_hash([data, self.recipe.sections["model"]])', 'short_hash([data, self.recipe.sections["model"], self.seed])'),
        ("the network key ignores the model", 'short_hash([data, self.recipe.sections["model"]])', "short_hash([data])"),
        ("the network key ignores the data", 'short_hash([data, self.recipe.sections["model"]])', 'short_hash([self.recipe.sections["model"]])'),
        ("recipes are not checked before the first run starts", "        _check(ahead)\n", ""),
        ("finished runs are started again", "return finished and", "return False and"),
        ("one user error hides a crash in the exit code", "all(failure.is_user_error", "any(failure.is_user_error"),
    ]),
    *plant("data/prefetch.py", "image_files", [
        ("a prefetched minibatch is returned for another one", "order is self._order and row == self._next", "order is self._order"),
        ("prefetching starts at the first minibatch of the epoch", "order[row:])", "order)"),
        ("prefetching uses the global random generator", "generator=torch.Generator(),", ""),
        ("a damaged image raises in the worker", "return error", "raise error"),
        ("loader workers do not ignore stop signals", "worker_init_fn=_ignore_signals,", ""),
        ("orphaned loader workers do not end", "lambda *_: signal.alarm(_STOP_TIMEOUT_S)", "signal.SIG_IGN"),
        ("a single minibatch starts workers", "if not follows or isinstance(images, Images)", "if isinstance(images, Images)"),
    ]),
    *plant("data/images.py", "image_files api", [
        ("the fingerprint of a folder ignores file sizes", "os.stat(self._path(name)).st_size", "0"),
        ("image sizes are not checked", "            self._check_size(path, colours)\n", ""),
        ("images are decoded with the wrong channel order", "np.asarray(colours).transpose(2, 0, 1)", "np.asarray(colours).reshape(x[i].shape)"),
        ("pixels between grey levels are rounded without an error", "_GREY_LEVEL_TOLERANCE = 1e-3", "_GREY_LEVEL_TOLERANCE = 1.0"),
    ]),
    *plant("analysis/theory/linear.py", "theory_problems theory_properties", [
        ("linear model: the attack lowers the loss", "- eps * _column(y) * _direction", "+ eps * _column(y) * _direction"),
        ("linear model: the Hessian ignores the attack's dependence on theta", 'return curved + s * eps * _jacobian_of_direction(theta) if norm == "L2" and eps else curved', "return curved"),
        ("linear model: derivatives at kinks raise no error", "if eps and kinks.any():", "if False:"),
        ("linear model: a constant of the loss is too small", "surest + radius * largest / 4)", "surest)"),
        ("linear model: the search finds the least loss of the ball", "corners[(-y * theta @ corners.T).argmax(-1)]", "corners[(-y * theta @ corners.T).argmin(-1)]"),
    ]),
    *plant("analysis/theory/implicit.py", "theory_problems theory_properties", [
        ("implicit differentiation: PGD leaves the ball", "            x_adv *= self.eps / np.maximum(np.linalg.norm(x_adv, axis=-1, keepdims=True), self.eps)\n", ""),
        ("the bordered Hessian has no border", "H[..., 0, 1:] = H[..., 1:, 0] = -delta", "H[..., 0, 0] = 1"),
        ("the bordered Hessian's distance from singular is doubled", "** 0.5 - high) / 2))", "** 0.5 - high)))"),
    ]),
    *plant("analysis/theory/entropy.py", "theory_problems theory_properties", [
        ("the covariance is not centred", "second.reshape(-1, d, d) - first[:, :, None] * first[:, None, :]", "second.reshape(-1, d, d)"),
        ("the covariance is scaled by gamma, not gamma squared", "- self.gamma**2 * covariance", "- self.gamma * covariance"),
        ("the integration range is too short", "max_abs_theta + 8 * deviation", "max_abs_theta + 3 * deviation"),
        ("the curvature of the smoothed absolute value is too small", " - 2  # of a - b", " - 2.1"),
    ]),
    *plant("analysis/theory/results.py", "theory", [
        ("a NaN margin counts as holding", "return self.margin >= 0", "return not self.margin < 0"),
        ("a decreasing series counts as a counterexample", "self.measured[-1] > self.bound and all(a < b for a, b in pairwise(self.measured))", "self.measured[-1] > self.bound"),
    ]),
    *plant("analysis/theory/numeric.py", "theory", [
        ("no sampled pair is close together", "np.arange(count) % 2 == 0", "np.arange(count) < 0"),
    ]),
    *plant("analysis/theory/swish_toy.py", "theory theory_figures", [
        ("swish toy: PGD leaves the ball", "delta = _project(delta + eps", "delta = (lambda moved, *_: moved)(delta + eps"),
        ("swish toy: the attack counts as inside the ball in the wrong norm", 'theta, 2 if norm == "L2" else 1, axis=-1', "theta, 2, axis=-1"),
    ]),
    *plant("analysis/theory/smoothing_statements.py", "theory_problems theory", [
        ("the second-order step is multiplied, not divided", "/ (1 - gamma * variance)", "* (1 - gamma * variance)"),
    ]),
    *plant("theory.py", "theory", [
        ("a false statement does not change the exit code", "    if faults:\n", "    if False:\n"),
    ]),
    *plant("config/sections.py", "image_files", [
        ("data.workers changes the run's name", '("stream", "workers")', '("stream",)'),
    ]),
    *plant("analysis/adversarial_loss.py", "smoothness", [
        ("the attack's seed is not fixed", "                torch.manual_seed(self.seed + number)\n", ""),
        ("the loss averages over batches, not images", "/ len(self.y)", "/ len(self.y[batch])"),
        ("the Hessian product uses the last batch only", "torch._foreach_add_(self.unflatten(total), list(tensors))", "torch._foreach_copy_(self.unflatten(total), list(tensors))"),
    ]),
    *plant("analysis/smoothness/curvature.py", "smoothness", [
        ("the top eigenvalue may be the lowest", "if dominant.value >= 0:", "if True:"),
        ("the eigenvalue of the shifted matrix is returned", "Eigenvalue(shifted.value - shift,", "Eigenvalue(shifted.value,"),
        ("Hutchinson probes are 0 and 1, not -1 and 1", "generator=generator) * 2 - 1)", "generator=generator))"),
        ("sharpness leaves the ball", "min(1.0, r / float(v.norm()))", "1.0"),
        ("sharpness is not relative to the loss", "scale = 1 + here", "scale = 1.0"),
    ]),
    *plant("analysis/smoothness/metrics.py", "smoothness", [
        ("gradient change is measured with fixed adversarial examples", "change = loss.gradient(moved) - g", "change = loss.gradient(x_adv) - g"),
        ("a cube's diameter is its edge", "return 2 * loss.threat.eps * dimensions**0.5", "return 2 * loss.threat.eps"),
        ("the descent direction points up the gradient", '("descent", -g / g.norm())', '("descent", g / g.norm())'),
    ]),
    *plant("analysis/smoothness/records.py", "smoothness", [
        ("measurements at other threats are not distinguished", '"threat", "settings")', '"settings")'),
    ]),
    *plant("analysis/trained_model.py", "trained_model", [
        ("checkpoints are sorted as text", 'key=lambda path: int(path.stem.partition("-")[2])', "key=lambda path: path.stem"),
        ("validation images count as training images", '"validation": 0, "split_seed": 0} | given', '"validation": 0, "split_seed": 0}'),
    ]),
    *plant("analysis/landscape/compute.py", "landscape", [
        ("layers are normalised, not filters", "tensor.flatten(1).norm(dim=1)", "tensor.norm().expand(len(tensor))"),
        ("directions are scaled, not normalised", "_filter_norms(w) / _filter_norms(d)", "_filter_norms(w)"),
        ("directions include biases and BatchNorm", "return torch.zeros_like(w)", "return d"),
        ("directions differ between networks", "derive_seed(seed, number)", "derive_seed(seed, number) + int(1e6 * float(weights[0].sum()))"),
        ("adversarial examples are crafted once", "x_adv = loss.adversarial_examples()", 'x_adv = loss.__dict__.setdefault("first", loss.adversarial_examples())'),
        ("the test loss uses training images", "(chosen.train, chosen.test)", "(chosen.train, chosen.train)"),
        ("both axes of a map use one direction", "for number in meta.directions\n", "for number in meta.directions[:1] * len(meta.directions)\n"),
        ("one network's values are used for all", "if number != self._number:", "if self._number < 0:"),
        ("partial landscapes are not saved", "if time.monotonic() - saved_at > _SAVE_S:", "if False:"),
        ("saved landscapes are computed again", "            landscape = read_landscape(part.path)\n", "            landscape = LossLandscape(part.meta)\n"),
        ("a landscape of one point is accepted", "self.points < 3 or ", "self.points < 1 or "),
        ("training images are not shuffled", "trained_model.train[order[: settings.n]]", "trained_model.train[: settings.n]"),
    ]),
    *plant("analysis/landscape/grid.py", "landscape", [
        ("the generalisation gap has the wrong sign", 'centre["train_robust"] - centre["test_robust"]', 'centre["test_robust"] - centre["train_robust"]'),
        ("landscape files are named by the weights", '_NAME_FIELDS = ("run",', '_NAME_FIELDS = ("weights_sha256", "run",'),
        ("the middle of an axis is not the checkpoint", "np.arange(-half, half + 1) / half", "(np.arange(-half, half + 1) + 0.01) / half"),
        ("directions count as independent runs", "each.mean(1) if shape[0] > 1", "each.reshape(-1, *each.shape[2:]) if shape[0] > 1"),
        ("the spread is the population's", "std(0, ddof=1)", "std(0)"),
        ("different losses share an axis", "            if mine != its:\n", "            if False:\n"),
    ]),
    *plant("analysis/landscape/plot.py", "landscape", [
        ("best and last are drawn on different scales", 'named["last"].sharey(named["best"])', "pass"),
        ("maps are drawn with different contour levels", "z, levels, norm=LogNorm(), cmap", "z, 9, norm=LogNorm(), cmap"),
    ]),
    *plant("config/plugins.py", "plugins", [
        ("of two packages with one name the first is used", "if len(packages) < 2:", "if True:"),
        ("a failing import of a package is a traceback", "except (Exception, SystemExit) as error:", "except ImportError as error:"),
        ("finding recipes imports their package", "spec = find_spec(top)", "spec = __import__(top).__spec__"),
    ]),
    *plant("config/registry.py", "plugins", [
        ("a package replaces a built-in method", "if name not in _builtin_names(kind):\n        return plugins", 'if f"{kind}.{name}" in plugins.plugin_methods():\n        return plugins'),
        ("a built-in method is reported as a package's", "None if offers is None or name in _builtin_names(kind) else", "None if offers is None else"),
        ("a missing package is not reported", "        if name not in component_names(kind):\n            raise UserError(\n", "        if False:\n            raise UserError(\n"),
    ]),
    *plant("config/resolver.py", "plugins", [
        ("a package's recipe changes a built-in name", "known.issuperset(split_method(path.stem)) == named_by_us", "(path.stem in ours) == named_by_us"),
        ("a package's broken file breaks the list", "return not file.packages or bool(", "return True or bool("),
        ("two packages' recipes of one name raise no error", "if name in self.files and (conflict", "if False and (conflict"),
        ("a package's unchanged recipe counts as changed", "in _package_files(dataset, named_by_us=False):", "in [] if shipped_only else _package_files(dataset, named_by_us=False):"),
    ]),
    *plant("config/schema.py", "plugins", [
        ("a package's data can be official", "else replace(source, official=False)", "else source"),
        ("augmentations' packages are not recorded", '*(("augmentation", name) for name, _ in self.data.augmentations)', ""),
    ]),
    *plant("components/conformance/fixtures.py", "conformance", [
        ("failed conformance checks pass", "if not holds:", "if False:"),
    ]),
    *plant("components/conformance/optimizers.py", "conformance", [
        ("a saved optimizer is tested before any step only", "_STEPS = (0, 1, 3, 7, 19, 20, 21)", "_STEPS = (0,)"),
    ]),
    *plant("doctor.py", "doctor", [
        ("the doctor does not import autoattack", 'importlib.import_module("autoattack")', "None"),
        ("the doctor repairs RobustBench when autoattack is broken", "_autoattack().fix or robustbench.REPAIR", "robustbench.REPAIR"),
    ]),
    *plant("core/robustbench.py", "pretrained robustbench", [
        ("an ensemble is accepted as one network", 'if not isinstance(known[name]["gdrive_id"], str)', "if False"),
        ("a threat model that RobustBench lacks raises KeyError", ".setdefault(ThreatModel(threat), {})", "[ThreatModel(threat)]"),
        ("a new data set has no loader", "    data._clean_dataset_loaders[member] = loader\n", ""),
        ("RobustBench's list of data sets changes", "        BenchmarkDataset._value2member_map_[name] = member", "        BenchmarkDataset._member_map_[name] = member; BenchmarkDataset._member_names_.append(name); BenchmarkDataset._value2member_map_[name] = member"),
    ]),
    *plant("leaderboard/zoo.py", "robustbench robustbench_import", [
        ("RobustBench's benchmark gets images that are not contiguous", "(test.x.float() / 255).contiguous()", "test.x.float() / 255"),
        ("RobustBench's benchmark gets pixels in [0, 255]", "(test.x.float() / 255).contiguous()", "test.x.float().contiguous()"),
        ("RobustBench's benchmark ignores n_examples", "test[:n_examples]", "test[:]"),
        ("an entry replaces a published model", "if entry.name in table and not isinstance", "if False and not isinstance"),
        ("new data sets are registered without new_datasets", "if new_datasets or entry", "if True or entry"),
    ]),
    *plant("core/robustbench_shims.py", "robustbench robustbench_import", [
        ("the HTML template is missing", "ChoiceLoader([PackageLoader(*place), ours])", "PackageLoader(*place)"),
        ("the shim of pkg_resources is not removed", 'del sys.modules["pkg_resources"]', "pass"),
    ]),
    *plant("leaderboard/external.py", "robustbench robustbench_import", [
        ("a checkpoint may take a published model's name", "if name in {row", 'if name + "!" in {row'),
    ]),
    *plant("leaderboard/reports/board.py", "entry_comparison page", [
        ("ranks are by AutoAttack, not by the lowest accuracy known", "[-row.best_known for row in self.rows]", "[-row.robust for row in self.rows]"),
        ("the seeds of a method are apart", "setdefault((row.ours, row.method), [])", "setdefault((row.ours, row.name), [])"),
    ]),
    *plant("leaderboard/reports/rows.py", "entry_comparison page", [
        ("an external checkpoint is called ours", '"external" if self.entry.is_external else "ours"', '"ours"'),
    ]),
    *plant("leaderboard/page/details.py", "page", [
        ("code loads weights that are not there", 'loading_code(shown) if has_weights else ""', "loading_code(shown)"),
    ]),
    *plant("leaderboard/metadata.py", "pretrained", [
        ("extra data of a published model on another data set is not recorded", 'score["board"] != robustbench.zoo_dataset(model["classes"]) or ', ""),
        ("extra data of a published model is not recorded", 'get("extra_data", True)', 'get("extra", False)'),
    ]),
    *plant("evaluation/custom_model.py", "api", [
        ("the model's modes are not restored", "with preserve_modes(model), tempfile", "with tempfile"),
    ]),
    *plant("api.py", "api", [
        ("the seed is ignored", '{"train.seed": seed}', "{}"),
        ("the number of threads is not restored", "torch.set_num_threads(threads)", "pass"),
        ("verbose=False prints", "with show_output(verbose)", "with show_output(True)"),
    ]),
    *plant("training/pipeline.py", "api", [
        ("a plan rewrites the stored recipe", "options, write_recipe=False", "options, write_recipe=True"),
        ("a crash in training is not recorded", ", crashes.record_crash_trace(run.crash_file):", ":"),
        ("a crash in the timed steps is not recorded", '        if options.until == "plan":\n            if announces:\n', "        if True:\n            if announces:\n"),
        ("training needs a finished evaluation", 'run.is_ready if options.until == "training" else run.is_finished', "run.is_finished"),
    ]),
    *plant("config/reference.py", "recipe_keys", [
        ("a key is described as another method's", "_documented_options(kind, other[1])[each] if other", "(unit, text) if other"),
        ("limits of optional keys are lost", "return [*words, *_range_texts(inner[1:])], choices", "return words, choices"),
        ("defaults are written as Python, not YAML", "        return str(value).lower()", "        return str(value)"),
        ("a broken package hides all keys", "except UserError as error:", "except KeyError as error:"),
        ("other packages' methods are written to the page", "if group.package is not None:", "if False:"),
        ("keys of other methods are listed", 'topic in (f"{section}.{key}", f"{each.title}.{key}")', "True"),
    ]),
]  # fmt: skip


def first_failure(mutant: Mutant) -> str | None:
    """The first test that fails on `mutant`; None if it survives."""
    with tempfile.TemporaryDirectory() as scratch:
        for part in ("rb_smooth", "tests", "benchmarks", "recipes", "docs", "leaderboard/published"):
            shutil.copytree(ROOT / part, Path(scratch, part), ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "CHANGELOG.md"):
            shutil.copy(ROOT / name, scratch)
        file = Path(scratch, "rb_smooth", mutant.file)
        file.write_text(file.read_text().replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-x", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
        command += ["-m", "not manual"]  # slow tests too
        ran = subprocess.run(
            [*command, *(f"tests/{name}" for name in mutant.tests)],
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


def main() -> int:
    words = sys.argv[1:] or [""]
    chosen = [mutant for mutant in MUTANTS if any(word in mutant.file for word in words)]
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, test in zip(chosen, pool.map(first_failure, chosen)):
            survivors += test is None
            print(f"{mutant.file}: {mutant.bug}: {test or 'SURVIVES'}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants make a test fail")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
