"""AST and MAST. Ask `create_model(name)`; nothing here downloads, prints or patches."""

from models.ast_model import AST, ASTConfig
from models.base import SpectrogramTransformer
from models.mast_model import MAST, MASTConfig
from models.registry import create_model, list_models, register_model

__all__ = [
    "AST",
    "MAST",
    "ASTConfig",
    "MASTConfig",
    "SpectrogramTransformer",
    "create_model",
    "list_models",
    "register_model",
]
