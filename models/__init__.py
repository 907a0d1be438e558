"""AST and MAST. Ask `create_model(name)`; nothing here downloads or prints.

Programs that use timm can ask `timm.create_model(name)` too.
"""

from models.ast_model import AST, ASTConfig
from models.base import SpectrogramTransformer
from models.classifier import ModelError, SpectrogramClassifier
from models.mast_config import MASTConfig
from models.mast_model import MAST
from models.mbt_model import MBT
from models.registry import create_model, list_models, register_presets
from models.timm_registry import register_when_timm_is_imported

__all__ = [
    "AST",
    "MAST",
    "MBT",
    "ASTConfig",
    "MASTConfig",
    "ModelError",
    "SpectrogramClassifier",
    "SpectrogramTransformer",
    "create_model",
    "list_models",
    "register_presets",
]

register_when_timm_is_imported()
