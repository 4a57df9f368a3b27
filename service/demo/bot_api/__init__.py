"""A Bot API server for the demo and for tests: real HTTP, the rules of the real one, faults.

`server.BotApi` runs inside this process; `control.started` runs one in a process of its own.
"""
