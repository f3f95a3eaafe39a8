"""Conversations to learn from: rows become messages, messages become token ids with a mask over what the assistant wrote."""

from burnish.data.chat.messages import Columns, Conversation, conversation, usual
from burnish.data.chat.rendering import encode, prompt
from burnish.data.chat.template import CHATML, ensure_template, turn_end
from burnish.data.chat.turns import Cut, Turns, shorten

__all__ = [
    "CHATML",
    "Columns",
    "Conversation",
    "Cut",
    "Turns",
    "conversation",
    "encode",
    "ensure_template",
    "prompt",
    "shorten",
    "turn_end",
    "usual",
]
