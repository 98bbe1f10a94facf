"""Keys, what they may spend and have spent, and the account of each generation.

Money is decimal here: the sum of many costs has no error in its last digit.
"""

import re
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from openrouter_sim import faults
from openrouter_sim.faults import Refusal

WELL_FORMED = re.compile(r"sk-or-v1-[A-Za-z0-9-]{12,}")
THROTTLE, THROTTLE_S = 4, 2.0


@dataclass
class Generation:
    """One completion: what came of it, and what it cost.

    Attributes:
        created: seconds since 1970.
        usage: the token counts, OpenAI's names; empty if the model was not asked.
        cost: USD.
        cancelled: whether the client left before the end.
    """

    model: str
    provider: str
    streamed: bool
    created: float = field(default_factory=time.time)
    usage: dict = field(default_factory=dict)
    cost: Decimal = Decimal(0)
    finish_reason: str | None = None
    cancelled: bool = False

    def __post_init__(self):
        self.id = f"gen-{int(self.created)}-{secrets.token_hex(10)}"

    def entry(self) -> dict:
        """The body of `/generation`: what OpenRouter's description requires."""
        cost = float(self.cost)
        prompt, completion = (
            self.usage.get(f"{side}_tokens", 0) for side in ("prompt", "completion")
        )
        unknown = (
            *("upstream_id", "cache_discount", "upstream_inference_cost", "app_id", "latency"),
            *("moderation_latency", "generation_time", "service_tier", "web_search_engine"),
            *("native_tokens_completion_images", "native_tokens_reasoning", "native_tokens_cached"),
            *("num_media_prompt", "num_input_audio_prompt", "num_media_completion"),
            *("num_search_results", "num_fetches", "preset_id", "router", "provider_responses"),
            *("workspace_id", "request_id", "external_user", "user_agent", "http_referer"),
        )
        return {
            "id": self.id,
            "model": self.model,
            "provider_name": self.provider,
            "created_at": datetime.fromtimestamp(self.created, UTC).isoformat(),
            "streamed": self.streamed,
            "cancelled": self.cancelled,
            "finish_reason": self.finish_reason,
            "native_finish_reason": self.finish_reason,
            "total_cost": cost,
            "usage": cost,
            "is_byok": False,
            "api_type": "completions",
            "data_region": "global",
            "origin": "",
            "tokens_prompt": prompt,
            "native_tokens_prompt": prompt,
            "tokens_completion": completion,
            "native_tokens_completion": completion,
            **dict.fromkeys(unknown),
        }


@dataclass
class Account:
    """What one key may spend and has spent, in USD, and its generations by id."""

    limit: Decimal = Decimal(1)
    is_management: bool = False
    usage: Decimal = Decimal(0)
    generations: dict[str, Generation] = field(default_factory=dict)
    recent: deque = field(default_factory=lambda: deque(maxlen=THROTTLE))

    def book(self, generation: Generation) -> None:
        """Charge a generation, and remember it."""
        self.usage += generation.cost
        self.generations[generation.id] = generation

    def throttle(self) -> None:
        """Count a request. Raises `Refusal` if too many came just before it."""
        now = time.monotonic()
        if len(self.recent) == THROTTLE and now - self.recent[0] < THROTTLE_S:
            wait = {"Retry-After": str(int(THROTTLE_S))}
            raise Refusal(429, "Rate limit exceeded: 4 requests in 2 s", wait)
        self.recent.append(now)

    def entry(self) -> dict:
        """The body of `/key`: what OpenRouter's description and its Python client require."""
        limit, usage = float(self.limit), float(self.usage)
        remaining = float(max(Decimal(0), self.limit - self.usage))
        spent = dict.fromkeys(("usage", "usage_daily", "usage_weekly", "usage_monthly"), usage)
        unknown = (
            "limit_reset",
            "expires_at",
            "creator_user_id",
            "organization_id",
            "workspace_id",
        )
        budget = {
            **dict.fromkeys(("budget_id", "guardrail_id", "reset_interval", "resets_at")),
            "scope": "key_limit",
            "include_byok": False,
            "limit_usd": limit,
            "spend_usd": usage,
            "remaining_usd": remaining,
        }
        return {
            "label": "simulated",
            "limit": limit,
            "limit_remaining": remaining,
            "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
            "is_free_tier": False,
            "is_management_key": self.is_management,
            "is_provisioning_key": self.is_management,
            "include_byok_in_limit": False,
            "allowed_data_regions": ["global"],
            "budgets": [budget],
            "effective_budget": budget,
            "free_model_daily_requests": {"limit": 50, "remaining": 50, "used": 0},
            **spent,
            **{f"byok_{name}": 0.0 for name in spent},
            **dict.fromkeys(unknown),
        }


class Accounts:
    """The accounts of all keys that were used."""

    def __init__(self):
        self._by_key: dict[str, Account] = {}

    def of(self, authorization: str) -> tuple[str, Account]:
        """The key in an `Authorization` header, and its account.

        Raises:
            Refusal: 401: the key is missing or bad.
        """
        scheme, _, key = authorization.strip().partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise Refusal(401, "No auth credentials found")
        if key == faults.REVOKED or not WELL_FORMED.fullmatch(key):
            raise Refusal(401, "User not found.")
        if key not in self._by_key:
            limit = Decimal(str(faults.BALANCES.get(key, 1.0)))
            self._by_key[key] = Account(limit, key == faults.MANAGEMENT)
        return key, self._by_key[key]

    def credits(self) -> dict:
        """The body of `/credits`: all keys together."""
        accounts = self._by_key.values()
        return {
            "total_credits": float(sum(account.limit for account in accounts)),
            "total_usage": float(sum(account.usage for account in accounts)),
        }
