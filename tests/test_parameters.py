"""The parameter table and the map from actions to physical units."""

import json

import pytest
import torch

from attiqa.errors import InputError
from isp_env.parameters import PARAMETERS, TUNE_PARAMETERS, ParameterSpace, parameter_table


def test_names_are_unique_and_neutral_lies_within_the_limits():
    names = [parameter.name for parameter in PARAMETERS]
    assert len(set(names)) == len(names)
    for parameter in PARAMETERS:
        assert parameter.low <= parameter.neutral <= parameter.high
        assert parameter.low < parameter.high


def test_zero_is_neutral_and_the_ends_are_the_limits():
    space = ParameterSpace()
    actions = torch.tensor([[-1.0], [0.0], [1.0]]).expand(3, len(space))
    low, neutral, high = space.to_physical(actions)
    assert torch.allclose(low, space.low)
    assert torch.equal(neutral, space.neutral)
    assert torch.allclose(high, space.high)


def test_the_map_is_linear_on_each_side_of_neutral():
    space = ParameterSpace(["sharpen_radius"])
    values = space.to_physical(torch.tensor([[-0.5], [0.5]]))
    assert torch.allclose(values, torch.tensor([[0.3], [0.7]]))


def test_actions_beyond_the_limits_are_clamped():
    space = ParameterSpace(["exposure"])
    assert space.to_physical(torch.tensor([[7.0]])).item() == 2.0


def test_to_action_inverts_to_physical():
    space = ParameterSpace()
    values = space.to_physical(torch.rand(50, len(space), generator=torch.Generator().manual_seed(0)) * 2 - 1)
    assert torch.allclose(space.to_physical(space.to_action(values)), values, atol=1e-4)
    assert torch.isfinite(space.to_action(values)).all()


def test_tune_parameters_are_in_the_table_and_keep_their_order():
    assert ParameterSpace(TUNE_PARAMETERS).names == TUNE_PARAMETERS


def test_as_dict_names_one_images_values():
    space = ParameterSpace(["exposure", "tint"])
    assert space.as_dict(torch.tensor([0.5, -0.25])) == {"exposure": 0.5, "tint": -0.25}


def test_the_description_is_json_and_the_table_has_one_row_a_parameter():
    assert [row["name"] for row in json.loads(json.dumps(ParameterSpace().describe()))] == [
        parameter.name for parameter in PARAMETERS
    ]
    assert len(parameter_table().splitlines()) == len(PARAMETERS) + 2


@pytest.mark.parametrize(
    "names, match", [(["brilliance"], "unknown parameter"), ([], "at least one"), (["hue", "hue"], "once")]
)
def test_a_wrong_choice_of_parameters_is_refused_in_a_sentence(names, match):
    with pytest.raises(InputError, match=match):
        ParameterSpace(names)


def test_rows_of_the_wrong_width_are_refused_in_a_sentence():
    with pytest.raises(InputError, match="shape"):
        ParameterSpace(["hue"]).to_physical(torch.zeros(2, 3))
