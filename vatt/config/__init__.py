"""Every knob of vatt: frozen, keyword-only dataclasses that are validated when they are built.

The comment on a field is its help text on the command line. Defaults follow the VATT paper (Akbari et al. 2021,
arXiv 2104.11178); where the released code computes another function, the field that switches says so, and
`vatt.presets.released` sets them all.
"""

from vatt.config.check import check as check
from vatt.config.data import AugmentConfig as AugmentConfig
from vatt.config.data import ClipConfig as ClipConfig
from vatt.config.data import DataConfig as DataConfig
from vatt.config.files import from_json as from_json
from vatt.config.files import load_experiment as load_experiment
from vatt.config.files import load_pretraining as load_pretraining
from vatt.config.files import to_json as to_json
from vatt.config.model import MODALITIES as MODALITIES
from vatt.config.model import AudioConfig as AudioConfig
from vatt.config.model import EncoderConfig as EncoderConfig
from vatt.config.model import HeadsConfig as HeadsConfig
from vatt.config.model import Modality as Modality
from vatt.config.model import ModelConfig as ModelConfig
from vatt.config.model import TextConfig as TextConfig
from vatt.config.model import VideoConfig as VideoConfig
from vatt.config.model import kept_tokens as kept_tokens
from vatt.config.runs import Config as Config
from vatt.config.runs import FinetuneConfig as FinetuneConfig
from vatt.config.runs import RunConfig as RunConfig
from vatt.config.training import CheckpointConfig as CheckpointConfig
from vatt.config.training import ClassifyConfig as ClassifyConfig
from vatt.config.training import EvaluateConfig as EvaluateConfig
from vatt.config.training import LogConfig as LogConfig
from vatt.config.training import LossConfig as LossConfig
from vatt.config.training import MeshConfig as MeshConfig
from vatt.config.training import OptimConfig as OptimConfig
