"""A simulator of OpenRouter on this machine, to test programs against its API and its failures.

It is not OpenRouter and contains no code of OpenRouter. No money moves: costs are computed from
prices that the caller supplies. The HTTP is real, and so are the text, which the pocket model
writes, and the token counts.

`faults` lists the failures and the keys. `app` is the server and `gateway` has its endpoints.
`catalog` has models and prices, `accounts` keys and balances. `chat_request` reads a request, and
`completion` makes an answer and its cost. `recorder` keeps requests and replies.
`python -m openrouter_sim` starts it.
"""
