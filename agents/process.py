"""A Gaussian process over the settings of one picture, told values and slopes: see `agents.climb`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class SettingsProcess(nn.Module):
    """A Gaussian process over settings ``(P,)``, told values and slopes: Matern 5/2, a length a parameter.

    Args:
        parameters: P.

    Attributes:
        log_scale: logarithm of the deviation of values, in units of the reward, as all of these.
        log_lengths: ``(P,)``, of the length scales, in units of the action.
        log_noise, log_slope_noise: of the deviation of noise in values, and ``(P,)`` in slopes.
        mean: of values.
    """

    def __init__(self, parameters: int) -> None:
        super().__init__()
        # of guarded gains about their answers, before anything is learnt
        self.log_scale = nn.Parameter(torch.tensor(0.05).log())
        self.log_lengths = nn.Parameter(torch.full((parameters,), 0.8).log())
        self.log_noise = nn.Parameter(torch.tensor(0.01).log())
        self.log_slope_noise = nn.Parameter(torch.full((parameters,), 0.02).log())
        self.mean = nn.Parameter(torch.tensor(0.05))

    def covariance(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Of values and slopes at settings ``(B, n, P)`` with those at ``(B, m, P)``.

        Returns:
            float64 ``(B, n (1 + P), m (1 + P))``, the value of each setting before its slopes.
        """
        lengths = self.log_lengths.double().exp()
        of_values, apart, first, second = self._radial(left, right, lengths)
        size = 1 + len(lengths)
        blocks = of_values.new_empty((*of_values.shape, size, size))
        blocks[..., 0, 0] = of_values
        blocks[..., 0, 1:] = first[..., None] * apart
        blocks[..., 1:, 0] = -blocks[..., 0, 1:]
        blocks[..., 1:, 1:] = (
            first[..., None, None] * torch.diag(lengths**-2)
            - second[..., None, None] * apart[..., :, None] * apart[..., None, :]
        )
        return blocks.transpose(2, 3).flatten(3).flatten(1, 2)

    def _value_covariance(self, setting: torch.Tensor, settings: torch.Tensor) -> torch.Tensor:
        """The value's row of `covariance` at one setting ``(B, P)``: ``(B, m (1 + P))``, at less work."""
        of_values, apart, first, _ = self._radial(
            setting[:, None], settings, self.log_lengths.detach().double().exp()
        )
        return torch.cat([of_values[..., None], first[..., None] * apart], dim=3)[:, 0].flatten(1)

    def _radial(
        self, left: torch.Tensor, right: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """For settings by twos, the distance counted in `lengths`.

        Returns:
            The kernel ``(B, n, m)``; half of the gradient of the squared distance ``(B, n, m, P)``; minus the
            kernel's first derivative by half of the squared distance, and its second one ``(B, n, m)``.
        """
        apart = (left[:, :, None] - right[:, None]) / lengths
        distance = 5**0.5 * apart.square().sum(dim=-1).clamp(min=1e-24).sqrt()
        decay = (2 * self.log_scale.double()).exp() * torch.exp(-distance)
        kernel = (1 + distance + distance.square() / 3) * decay
        return kernel, apart / lengths, 5 / 3 * (1 + distance) * decay, 25 / 3 * decay

    def misfit(self, settings: torch.Tensor, gains: torch.Tensor, slopes: torch.Tensor) -> torch.Tensor:
        """How badly the process tells looks: minus the log of their marginal likelihood, ``(B,)``.

        Args:
            settings: ``(B, n, P)``.
            gains: ``(B, n, K)``, of K functions that are drawn alike.
            slopes: ``(B, n, K, P)``.
        """
        factor, told, weights = self._solved(settings, gains, slopes)
        spread = torch.diagonal(factor, dim1=1, dim2=2).log().sum(dim=1)
        return (told * weights).sum(dim=(1, 2)) / 2 + spread * gains.shape[2]

    @torch.no_grad()
    def expects(
        self, settings: torch.Tensor, gains: torch.Tensor, slopes: torch.Tensor
    ) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """What looks, as `misfit` takes them, say of a setting ``(B, P)``.

        Returns:
            A function to the means ``(B, K)`` and their deviation ``(B,)``, through which gradients flow.
        """
        factor, _, weights = self._solved(settings, gains, slopes)
        precision = torch.cholesky_inverse(factor)
        variance, base = (2 * self.log_scale.double()).exp(), self.mean.double()

        def at(setting: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            known = self._value_covariance(setting, settings)[:, None]  # (B, 1, n (1 + P))
            told = (known @ precision * known).sum(dim=(1, 2))
            return (known @ weights)[:, 0] + base, (variance - told).clamp(min=1e-12).sqrt()

        return at

    def _solved(
        self, settings: torch.Tensor, gains: torch.Tensor, slopes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The Cholesky factor of what was told; what was told, and its weights ``(B, n (1 + P), K)``."""
        noise = torch.cat([self.log_noise[None], self.log_slope_noise]).double()
        variances = (2 * noise).exp().repeat(settings.shape[1])
        factor = torch.linalg.cholesky(self.covariance(settings, settings) + torch.diag(variances))
        told = torch.cat([(gains - self.mean)[..., None], slopes], dim=3)  # (B, n, K, 1 + P)
        told = told.transpose(2, 3).flatten(1, 2).double()
        return factor, told, torch.cholesky_solve(told, factor)
