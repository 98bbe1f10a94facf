"""The kit's own machinery: command line, runner, checks. A learner never needs to open it."""
