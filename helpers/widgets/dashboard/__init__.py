"""A sweep of a server to watch while it runs: a plain function first, and a widget over it."""

from helpers.widgets.dashboard.app import Dashboard as Dashboard
from helpers.widgets.dashboard.measuring import Sweep as Sweep
from helpers.widgets.dashboard.measuring import measure as measure
