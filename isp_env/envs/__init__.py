"""The Gymnasium environments; `isp_env` registers them on import."""

from isp_env.envs.building import build_core
from isp_env.envs.core import Core
from isp_env.envs.refine import RefineEnv, RefineVectorEnv
from isp_env.envs.shells import IspEnv, IspVectorEnv, TensorStep
from isp_env.envs.tools import ParameterTools, Tools, ToolsEnv, ToolsVectorEnv
from isp_env.envs.tune import TuneEnv, TuneVectorEnv

__all__ = [
    "Core",
    "IspEnv",
    "IspVectorEnv",
    "ParameterTools",
    "RefineEnv",
    "RefineVectorEnv",
    "TensorStep",
    "Tools",
    "ToolsEnv",
    "ToolsVectorEnv",
    "TuneEnv",
    "TuneVectorEnv",
    "build_core",
]
