"""Compare models fairly: the same questions to each, scorers without a judge, paired statistics.

`questions` and `ways` say what is asked and how, `runs` asks and keeps the answers, `scorers` judge
them, `statistics` says what the difference is worth, and `sheets` writes down how it was done.
"""
