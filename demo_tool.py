"""Tool mode: not here yet, and it says so."""

from page import draw_not_here_yet


def main() -> None:
    draw_not_here_yet("Tool", "In it, the model will call Python functions and MCP servers.")
