"""Python functions as tools: their schemas, and the loop in which a model calls them."""

from helpers.tools.loop import Step, Trace, run_tools
from helpers.tools.schemas import ToolError, describe, validate_call
from pocket_model.call_id import new_call_id

__all__ = ["Step", "ToolError", "Trace", "describe", "new_call_id", "run_tools", "validate_call"]
