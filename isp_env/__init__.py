"""From a raw file to display sRGB: batched operators and Gymnasium environments around them.

Importing the package registers ``isp_env/Tune-v0``, ``isp_env/Refine-v0`` and ``isp_env/Tools-v0`` with
Gymnasium, each for `gymnasium.make` and, natively batched, for `gymnasium.make_vec`.
"""

from gymnasium.envs.registration import register

from isp_env.frame import FrameSource, RawBatch, RawFrame
from isp_env.parameters import PARAMETERS, TUNE_PARAMETERS, Parameter, ParameterSpace

__all__ = [
    "PARAMETERS",
    "TUNE_PARAMETERS",
    "FrameSource",
    "Parameter",
    "ParameterSpace",
    "RawBatch",
    "RawFrame",
]

for _task in ("Tune", "Refine", "Tools"):
    register(
        id=f"isp_env/{_task}-v0",
        entry_point=f"isp_env.envs.{_task.lower()}:{_task}Env",
        vector_entry_point=f"isp_env.envs.{_task.lower()}:{_task}VectorEnv",
    )
