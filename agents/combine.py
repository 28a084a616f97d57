"""Make one policy of several: ``python agents/combine.py --run RUN RUN --out DIR``.

It answers with the mean of what they answer. What a policy makes of a picture that is unlike those it learnt
from is partly chance, and the mean of several is less so, even of states of one run (Hansen and Salamon:
Neural network ensembles, PAMI 1990; Huang et al.: Snapshot ensembles, ICLR 2017). The networks lie side by
side in one of the same kind, which every command takes and training goes on from.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

if not __package__:  # run as a script, from whatever directory: the checkout is where imports begin
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from agents.dpg import DPGPolicy
from agents.policy import BegunActorCritic, actor_of, build_policy, linears
from agents.policy_file import CARD, WEIGHTS, StoredPolicy, describe_network, load_policy, save_policy
from attiqa.errors import EXIT_OK, InputError, command
from attiqa.options import option, parse

# entries of the card that members share: what they set, and through which eye they see how large a preview
SHARED = ("parameters", "eye", "short_side")


@dataclass(frozen=True)
class CombineOptions:
    """What the command line can say."""

    run: list[Path] = option(
        help="run folders of agents/train_isp.py, of the task tune, that began with the same policy: --algo "
        "dpg, or ppo from a stored policy; the first gives the reward that the card names, and what training "
        "would go on with",
        metavar="DIR",
    )
    out: Path = option(help="where the policy goes; made where missing")
    overwrite: bool = option(False, help="replace a policy that is there")

    def __post_init__(self) -> None:
        if len(self.run) < 2:
            raise InputError(f"--run names two policies at least; got {len(self.run)}.")
        existing = [self.out / name for name in (CARD, WEIGHTS) if (self.out / name).exists()]
        if existing and not self.overwrite:
            raise InputError(
                f"{existing[0]} exists already; take another --out, or replace it with --overwrite."
            )


def combine(members: Sequence[StoredPolicy], names: Sequence[str] = ()) -> StoredPolicy:
    """The policy whose answer is the mean of those of `members`, each taken before its last tanh.

    A PPO policy's value function is the mean of theirs, its deviation the first one's; dpg's critics are the
    first one's.

    Args:
        members: of one look, alike but for weights and sizes of hidden layers; what they read must be
            standardised alike, as it is where they began with one policy.
        names: what to call them in a refusal; numbers where none are given.

    Raises:
        InputError: policies of other kinds, or which differ.
    """
    called = list(names) or [f"policy {number}" for number in range(1, len(members) + 1)]
    first = members[0]
    for name, member in zip(called, members, strict=True):  # the first's kind is asked as any other's
        _refuse(called[0], first, name, member)
    hidden = [sum(sizes) for sizes in zip(*(member.hidden for member in members), strict=True)]
    network, acts = first.card["network"], first.policy.action_space
    sees: Any = first.policy.observation_space
    begun = bool(network["begun"])
    shape = {"log_std": network["log_std"], "components": network["components"]}
    policy: Any = build_policy(first.algo, sees, acts, hidden, **shape, begun=begun)
    # what is no layer of the actor, an extractor or critics, is the first one's
    own = policy.state_dict()
    policy.load_state_dict(
        {
            key: value if own[key].shape == value.shape else own[key]
            for key, value in first.policy.state_dict().items()
        }
    )
    _side_by_side(actor_of(policy)[1], [actor_of(member.policy)[1] for member in members])
    if isinstance(policy, BegunActorCritic):
        _side_by_side(_value_of(policy), [_value_of(member.policy) for member in members])
    policy.set_training_mode(False)
    described = describe_network(first.algo, sees, acts, hidden, network["log_std"], begun)
    card = {key: value for key, value in first.card.items() if key not in ("format", "digest", "network")}
    card["members"] = [
        {"policy_digest": member.digest, **{key: member.card.get(key) for key in ("steps", "seed", "reward")}}
        for member in members
    ]
    card["steps"] = sum(int(member.card.get("steps", 0)) for member in members)
    return StoredPolicy(policy, {**card, "network": described}, "")


def _refuse(first_name: str, first: StoredPolicy, name: str, other: StoredPolicy) -> None:
    able = isinstance(other.policy, DPGPolicy | BegunActorCritic)
    if not able or other.card.get("task") != "tune":
        raise InputError(
            f"{name} is a policy of {other.algo} and {other.card.get('task')}; expected policies of one "
            "look, --task tune, by --algo dpg, or by ppo from a stored policy."
        )
    for entry in SHARED:
        if first.card.get(entry) != other.card.get(entry):
            raise InputError(
                f"{first_name} and {name} differ in {entry}; only policies that agree in it combine."
            )
    alike = first.algo == other.algo and first.policy.observation_space == other.policy.observation_space
    if not alike or len(first.hidden) != len(other.hidden):
        raise InputError(
            f"{first_name} and {name} are networks of other kinds: {first.algo} and {other.algo}, seeing "
            f"{', '.join(first.sees)} and {', '.join(other.sees)}; only like ones combine."
        )
    ours, theirs = (actor_of(member.policy)[0].state_dict() for member in (first, other))
    if any(not torch.equal(ours[key], theirs[key]) for key in ours):
        raise InputError(
            f"{first_name} and {name} standardise what they see each in its own way, as runs do that begin "
            "at the neutral render; combine runs that began with one policy (--start)."
        )


@torch.no_grad()
def _side_by_side(own: Sequence[nn.Linear], theirs: Sequence[Sequence[nn.Linear]]) -> None:
    """Fill the layers `own` so that they give the mean of what several networks give, each by its layers."""
    for depth, (layer, members) in enumerate(zip(own, zip(*theirs, strict=True), strict=True)):
        weights, biases = [member.weight for member in members], [member.bias for member in members]
        if depth == len(own) - 1:
            layer.weight.copy_(torch.cat(weights, dim=1) / len(weights))
            layer.bias.copy_(torch.stack(biases).mean(dim=0))
        else:
            layer.weight.copy_(torch.cat(weights) if depth == 0 else torch.block_diag(*weights))
            layer.bias.copy_(torch.cat(biases))


def _value_of(policy: Any) -> list[nn.Linear]:
    return [*linears(policy.mlp_extractor.value_net), policy.value_net]


@command
def main(argv: list[str] | None = None) -> int:
    """Combine, and say of what."""
    options = parse(CombineOptions, argv, prog="combine.py", description=" ".join(__doc__.split()))
    made = combine([load_policy(folder) for folder in options.run], [str(folder) for folder in options.run])
    rewards = {str(member["reward"]) for member in made.card["members"]}
    if len(rewards) > 1:
        print(
            f"the policies were trained for {len(rewards)} rewards; the card names that of {options.run[0]}",
            file=sys.stderr,
        )
    about = {key: value for key, value in made.card.items() if key != "network"}
    save_policy(options.out, made.policy, made.card["network"], about)
    print(f"{options.out}: answers with the mean of {len(options.run)} policies, hidden layers {made.hidden}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(None))
