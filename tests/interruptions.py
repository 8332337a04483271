"""Runs stopped where a test wants them to be."""

from __future__ import annotations

import signal

from rb_smooth.training import trainer


def stop_after(monkeypatch, batches):
    """SIGINT arrives in the middle of minibatch number `batches`."""
    real, count = trainer.training_step, iter(range(10**6))

    def interrupted(*arguments):
        if next(count) == batches:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(trainer, "training_step", interrupted)
