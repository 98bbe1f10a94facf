"""Python functions as tools: their schemas, and the loop in which a model calls them."""

from helpers.tools.loop import Step, Trace, run_tools
from helpers.tools.schemas import ToolError, describe, validate_call

__all__ = ["Step", "ToolError", "Trace", "describe", "run_tools", "validate_call"]
