"""AST and MAST. Ask `create_model(name)`; nothing here downloads, prints or patches."""

from models.ast_model import AST, ASTConfig
from models.mast_model import MAST, MASTConfig
from models.registry import create_model, list_models, register_model

__all__ = ["AST", "MAST", "ASTConfig", "MASTConfig", "create_model", "list_models", "register_model"]
