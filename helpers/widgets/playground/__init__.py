"""A chat with tools and pictures: plain functions first, and a widget over them."""

from helpers.widgets.playground.app import Playground as Playground
from helpers.widgets.playground.conversation import Conversation as Conversation
from helpers.widgets.playground.conversation import Turn as Turn
from helpers.widgets.playground.exports import as_curl as as_curl
from helpers.widgets.playground.exports import as_python as as_python
from helpers.widgets.playground.sending import resend as resend
from helpers.widgets.playground.sending import send as send
from helpers.widgets.playground.streaming import Stop as Stop
