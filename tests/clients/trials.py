"""Shared by the scripts. `--list` lists a script's trials. `NAME BASE_URL` runs one, and the exit code is its result."""

import contextlib
import os
import sys

# An image of one pixel, in place of a screenshot.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

# A model of the other API, if the calls of the trials are to be translated.
TRANSLATED = os.environ.get("GATEWAY_MODEL")

# Trials time out by themselves, instead of after the SDKs' ten minutes.
TIMEOUT = 30


def text(deltas=9):
    """The text that the simulated provider sends in this many deltas."""
    words = ["Hello", ",", " I", " am", " simulated", ":", " no", " provider", " was asked."]
    return "".join(words[n % len(words)] for n in range(deltas))


@contextlib.contextmanager
def raises(kind):
    """Expects an exception of exactly this class, which is in `.error` afterwards."""

    class Caught:
        error = None

    try:
        yield Caught
    except Exception as error:
        assert type(error) is kind, f"{kind.__name__} expected, and it was {type(error).__name__}: {error}"
        Caught.error = error
    else:
        raise AssertionError(f"{kind.__name__} expected, and nothing was raised")


def main(names):
    trials = {name: trial for name, trial in names.items() if name.startswith("test_")}
    match sys.argv[1:]:
        case ["--list"]:
            print("\n".join(trials))
        case [name, base_url]:
            trials[name](base_url)
        case _:
            sys.exit(f"usage: {sys.argv[0]} --list | NAME BASE_URL")
