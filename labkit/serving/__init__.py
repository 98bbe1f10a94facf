"""Servers that others wrote, run here: vLLM, and vllm-router in front of several servers."""
