"""Compiled stages: the same picture as uncompiled, and a way on where nothing can be compiled."""

from __future__ import annotations

import functools
import logging
import pickle

import pytest
import torch

from isp_env.frame import RawBatch
from isp_env.parameters import ParameterSpace
from isp_env.pipeline import Pipeline
from isp_env.stages import Stages, terms_of

compile_really = torch.compile


def batch_of(count: int) -> RawBatch:
    matrix = torch.tensor([[1.6, -0.5, -0.1], [-0.2, 1.4, -0.2], [0.0, -0.5, 1.5]])
    gains = torch.tensor([2.0, 1.0, 1.5])
    return RawBatch(torch.rand(count, 3, 40, 48), gains.expand(count, 3), matrix.expand(count, 3, 3))


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "isp_env.stages"]


def test_only_operators_that_an_image_uses_have_terms():
    space = ParameterSpace(["exposure", "contrast", "shadows", "hue"])
    values = space.neutral_values(2)
    assert terms_of(space, batch_of(2), values).keys() == {"gains", "matrix"}
    values[1, 2] = 0.5
    terms = terms_of(space, batch_of(2), values)
    assert terms.keys() == {"gains", "matrix", "regions"}
    assert terms["regions"].tolist() == [[0, 0, 0, 0], [0, 0.5, 0, 0]]


def test_traced_stages_render_as_they_are_written(monkeypatch):
    # the tracer without its code generator, which takes a minute for all operators
    monkeypatch.setattr(torch, "compile", functools.partial(compile_really, backend="eager"))
    space, batch = ParameterSpace(), batch_of(3)
    values = space.to_physical(torch.rand(3, len(space)) * 2 - 1)
    stages = Pipeline(space, compiled=True)
    assert torch.allclose(stages(batch, values), Pipeline(space)(batch, values), atol=1e-5)
    assert stages.compiled  # nothing fell back


def test_a_compiled_pipeline_can_be_pickled_after_use(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function: lambda *arguments: function(*arguments))
    space, batch = ParameterSpace(["exposure"]), batch_of(1)
    pipeline = Pipeline(space, compiled=True)
    render = pipeline(batch, torch.ones(1, 1))
    copy = pickle.loads(pickle.dumps(pipeline))
    assert copy.compiled
    assert torch.equal(copy(batch, torch.ones(1, 1)), render)


def test_a_stage_that_is_compiled_for_this_machine_gives_the_same(caplog):
    image = torch.rand(2, 3, 24, 40)
    terms = {"vibrance": torch.tensor([0.5, -0.5]), "gamma": torch.tensor([0.3, 0.0])}
    with caplog.at_level(logging.WARNING, logger="isp_env.stages"):
        compiled = Stages(compiled=True).mix(image, terms)
    if refusals := ours(caplog):
        pytest.skip(refusals[0])
    assert torch.allclose(compiled, Stages(compiled=False).mix(image, terms), atol=1e-5)


def test_without_a_compiler_it_goes_on_uncompiled_and_says_so_once(monkeypatch, caplog):
    def no_compiler(function):
        def refuse(*arguments):
            raise RuntimeError("No working C++ compiler found\nand a long trace")

        return refuse

    monkeypatch.setattr(torch, "compile", no_compiler)
    space, batch = ParameterSpace(["exposure", "contrast"]), batch_of(2)
    values = space.to_physical(torch.full((2, 2), 0.5))
    pipeline = Pipeline(space, compiled=True)
    with caplog.at_level(logging.WARNING, logger="isp_env.stages"):
        renders = [pipeline(batch, values) for _ in range(2)]
    assert ours(caplog) == [
        "the ISP could not be compiled (No working C++ compiler found); "
        "it runs uncompiled, which is slower and gives the same."
    ]
    assert not pipeline.compiled
    for render in renders:
        assert torch.equal(render, Pipeline(space)(batch, values))
