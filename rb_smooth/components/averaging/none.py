"""No averaging: the optimizer's deployed weights are evaluated and saved."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Unaveraged:
    """Returns the optimizer's deployed weights; has no state. Source: both papers."""

    def update(self, deployed: list[Tensor], t: int) -> None:
        pass

    def weights(self, deployed: list[Tensor]) -> list[Tensor]:
        return deployed

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass
