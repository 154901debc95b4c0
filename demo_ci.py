"""Code Interpreter mode: not here yet, and it says so."""

from page import draw_not_here_yet


def main() -> None:
    draw_not_here_yet(
        "Code Interpreter", "In it, the model will run code in a sandboxed Jupyter kernel of your own."
    )
